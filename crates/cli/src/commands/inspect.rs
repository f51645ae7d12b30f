//! `gantry inspect`.

use std::path::PathBuf;

use bundle::{Bundle, Completeness};
use serde::Serialize;
use types::ByteSize;

use crate::context::Context;
use crate::error::Result;
use crate::ui;
use crate::world;

/// Show what is in volumes.
///
/// Reads only their indexes and the first volume's documents: a second, whatever their size.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry inspect /media/disk/*.gantry
  gantry inspect /media/disk --lock > gantry.lock    # the lock that was packed")]
pub(crate) struct Args {
    /// Volume files, folders with volumes, or the .gantry.json beside them. The first volume must be
    /// among them.
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<PathBuf>,
    /// Print the lock that the bundle was packed from.
    #[arg(long)]
    lock: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Contents {
    bundle: String,
    volumes: usize,
    missing: Vec<u32>,
    roots: Vec<Row>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    kind: &'static str,
    digest: types::Digest,
    is_complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<()> {
    let bundle = Bundle::open_some(&world::volumes(&args.volumes)?)?;
    if args.lock {
        return context.ui.print(String::from_utf8_lossy(bundle.lock()).trim_end());
    }
    let rows = bundle
        .completeness()?
        .into_iter()
        .map(|(root, completeness)| Row {
            name: root.name.to_string(),
            kind: root.kind.as_str(),
            digest: root.descriptor.digest,
            is_complete: completeness == Completeness::Complete,
            bytes: store::closure(&bundle, &root).ok().map(|closure| closure.size()),
        })
        .collect();
    let contents = Contents {
        bundle: bundle.id().to_string(),
        volumes: bundle.set().volumes().len(),
        missing: bundle.set().missing().to_vec(),
        roots: rows,
    };
    context.ui.result(&contents, |contents| {
        let rows = contents.roots.iter().map(|row| {
            let size = match row.bytes {
                Some(bytes) => ByteSize(bytes).to_string(),
                None => "incomplete".to_owned(),
            };
            [row.kind.to_owned(), row.name.clone(), row.digest.short(), size]
        });
        let table = ui::table(["kind", "name", "digest", "size"], rows.collect());
        let missing: Vec<_> = contents.missing.iter().map(ToString::to_string).collect();
        let missing = match missing.is_empty() {
            true => String::new(),
            false => format!(", missing: {}", missing.join(", ")),
        };
        format!("{table}\n{} volumes{missing}\n", contents.volumes)
    })
}
