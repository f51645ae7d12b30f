//! The log: messages of `tracing`, to standard error or to a file, as text or as JSON.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use types::foreign_text::{clean_message, escape_json};

use super::terminal::write_to_stderr;
use crate::error::{CommandError, Result};

/// The variable with a filter in the form of `tracing`.
const VARIABLE: &str = "GANTRY_LOG";

/// The format of log messages.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line, for programs.
    Json,
}

/// Where log messages go, and how.
#[derive(Default)]
pub(crate) struct LogSettings<'a> {
    /// The file that they are appended to; standard error without one.
    pub(crate) file: Option<&'a Path>,
    /// Their format.
    pub(crate) format: LogFormat,
}

impl LogSettings<'_> {
    /// Starts the log. `--quiet` silences standard error, not a file.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub(super) fn start(&self, quiet: bool, verbose: u8) -> Result<()> {
        if quiet && self.file.is_none() {
            return Ok(());
        }
        // Dependencies log much more than Gantry. Their `debug` shows requests (`-vv`) but not the frames
        // and handshakes below them.
        let level = match verbose {
            0 => "warn",
            1 => "gantry=info,access=info,warn",
            _ => "debug,hyper=info,h2=info,rustls=info",
        };
        let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(level));
        let file = match self.file {
            Some(path) => Some(Arc::new(open_file(path)?)),
            None => None,
        };
        let format = self.format;
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || LogWriter { file: file.clone(), format })
            // The writer shows escapes.
            .with_ansi(false);
        // Fails only if a logger exists already, as in tests.
        let _ = match format {
            LogFormat::Text => builder.with_target(false).try_init(),
            LogFormat::Json => builder.event_format(JsonEvents).try_init(),
        };
        Ok(())
    }
}

fn open_file(path: &Path) -> Result<File> {
    File::options().create(true).append(true).open(path).map_err(|cause| {
        CommandError::usage_error(format!("--log-file {}: {cause}", path.display()))
            .with_hint("name a file in a folder that you may write to")
    })
}

/// Writes log messages, each cleaned. A log that cannot be written does not stop the work.
struct LogWriter {
    file: Option<Arc<File>>,
    format: LogFormat,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A message comes whole, in one call.
        let text = String::from_utf8_lossy(bytes);
        let text = match self.format {
            LogFormat::Text => clean_message(&text),
            LogFormat::Json => escape_json(text.into_owned()),
        };
        match &self.file {
            Some(file) => drop((&**file).write_all(text.as_bytes())),
            None => write_to_stderr(text.as_bytes()),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Formats each message as one JSON object: time, level, and the fields of the message.
struct JsonEvents;

impl<S, N> FormatEvent<S, N> for JsonEvents
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = JsonFields::default();
        fields.0.insert("timestamp".to_owned(), time.into());
        fields.0.insert("level".to_owned(), event.metadata().level().as_str().into());
        fields.0.insert("target".to_owned(), event.metadata().target().into());
        event.record(&mut fields);
        writeln!(writer, "{}", Value::Object(fields.0))
    }
}

/// The fields of a message.
#[derive(Default)]
struct JsonFields(Map<String, Value>);

impl JsonFields {
    /// Adds a text; an address in it may hold a password or a signature.
    fn insert_text(&mut self, field: &Field, text: &str) {
        self.0.insert(field.name().to_owned(), types::redact_urls(text).into());
    }
}

impl Visit for JsonFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert_text(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert_text(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}
