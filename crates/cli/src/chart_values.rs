//! helm's options for values, of every subcommand that renders a chart.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use remote::helm;
use remote::scratch::ScratchFolder;
use types::input::SetExpressions;
use types::{ByteSize, Cause};

use crate::environment;
use crate::error::{CommandError, Result};

/// The longest values that are read from a pipe: far above any real ones, and a bound for an endless one.
const LONGEST: ByteSize = ByteSize(32 << 20);

/// The values of a chart, as helm takes them and with helm's order: files, then `--set-json`, `--set`,
/// `--set-string` and `--set-file`.
#[derive(clap::Args, Default)]
pub(crate) struct ValuesArgs {
    /// A values file, as for helm; - for standard input. May be given several times, the last one wins.
    #[arg(short = 'f', long = "values", value_name = "FILE")]
    values: Vec<PathBuf>,
    /// A value, as for --set of helm; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A value that is always a text, as for --set-string of helm; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set_string: Vec<String>,
    /// A value that is the text of a file, as for --set-file of helm; may be given several times.
    #[arg(long, value_name = "KEY=FILE")]
    set_file: Vec<String>,
    /// A value in JSON, as for --set-json of helm; may be given several times.
    #[arg(long, value_name = "KEY=JSON")]
    set_json: Vec<String>,
}

/// Values that are ready for helm: with absolute paths, and with copies of what comes from a pipe. The
/// copies exist as long as this value does.
#[derive(Debug)]
pub(crate) struct ChartValues {
    files: Vec<PathBuf>,
    set: SetExpressions,
    _copies: Option<ScratchFolder>,
}

impl ValuesArgs {
    /// Whether none was given.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { values, set, set_string, set_file, set_json } = self;
        values.is_empty() && [set, set_string, set_file, set_json].into_iter().all(Vec::is_empty)
    }

    /// The paths of the values files, as they were given.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.values
    }

    /// Whether a values file is standard input.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.values.iter().any(|path| path == Path::new("-"))
    }

    /// Reads what comes from standard input or another pipe, which can be read only once while a chart is
    /// rendered many times, and makes paths absolute.
    ///
    /// # Errors
    ///
    /// Standard input is given twice or is a terminal, or a file cannot be read.
    pub(crate) fn read_values(&self) -> Result<ChartValues> {
        if self.values.iter().filter(|path| *path == Path::new("-")).count() > 1 {
            return Err(CommandError::usage_error(
                "-f - is given twice: standard input can only be read once",
            )
            .with_hint("merge the values into one stream, or give one of them in a file"));
        }
        let mut copies = PipeCopies::default();
        let files = self.values.iter().map(|path| match path == Path::new("-") {
            true => copies.copy_stdin(),
            false => copies.copy_pipe(environment::make_absolute(path)?),
        });
        let files = files.collect::<Result<_>>()?;
        let mut set = SetExpressions {
            json: self.set_json.clone(),
            typed: self.set.clone(),
            strings: self.set_string.clone(),
            files: Vec::new(),
        };
        for expression in &self.set_file {
            set.files.push(prepare_file_expression(expression, &mut copies)?);
        }
        Ok(ChartValues { files, set, _copies: copies.folder })
    }
}

/// A `--set-file` expression with absolute paths.
fn prepare_file_expression(expression: &str, copies: &mut PipeCopies) -> Result<String> {
    let mut prepare = |path: &Path| {
        if path == Path::new("-") {
            return Err("--set-file takes a file; standard input is read with -f -".into());
        }
        let prepared = environment::make_absolute(path).and_then(|path| copies.copy_pipe(path));
        prepared.map_err(|error| Cause::from(error.message_with_causes()))
    };
    helm::rewrite_set_file_paths(expression, &mut prepare)
        .map_err(|cause| CommandError::usage_error(cause.to_string()))
}

impl ChartValues {
    /// The values files; later ones override earlier ones.
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The expressions of `--set` and its siblings.
    pub(crate) fn set(&self) -> &SetExpressions {
        &self.set
    }
}

/// Copies of what can be read only once, in a folder that only this user can read.
#[derive(Default)]
struct PipeCopies {
    folder: Option<ScratchFolder>,
    count: usize,
}

impl PipeCopies {
    fn copy_stdin(&mut self) -> Result<PathBuf> {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(CommandError::usage_error("no values on standard input")
                .with_hint("pipe them: sops -d values.yaml | gantry … -f -"));
        }
        self.copy_stream(&mut stdin.lock(), "standard-input.yaml", "standard input")
    }

    /// The path itself, or that of a copy where it is a pipe (`-f <(sops -d values.yaml)`).
    fn copy_pipe(&mut self, path: PathBuf) -> Result<PathBuf> {
        // A file that is missing is reported by whoever reads it.
        let is_pipe = fs::metadata(&path).is_ok_and(|found| !found.is_file() && !found.is_dir());
        if !is_pipe {
            return Ok(path);
        }
        let shown = path.display().to_string();
        let mut pipe = File::open(&path)
            .map_err(|cause| CommandError::usage_error(format!("cannot read {shown}: {cause}")))?;
        self.count += 1;
        let name = format!("pipe-{}.yaml", self.count);
        self.copy_stream(&mut pipe, &name, &shown)
    }

    fn copy_stream(&mut self, stream: &mut dyn Read, name: &str, shown: &str) -> Result<PathBuf> {
        let folder = match self.folder.take() {
            Some(folder) => folder,
            None => ScratchFolder::new("gantry-values-")?,
        };
        let path = self.folder.insert(folder).path().join(name);
        let failed =
            |cause: io::Error| CommandError::failure(format!("cannot read {shown}: {cause}"));
        let mut copy = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let length = io::copy(&mut stream.take(LONGEST.0 + 1), &mut copy).map_err(failed)?;
        if length > LONGEST.0 {
            return Err(CommandError::usage_error(format!("{shown} is longer than {LONGEST}"))
                .with_hint("give the values of one release"));
        }
        Ok(path)
    }
}
