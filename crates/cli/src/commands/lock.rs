//! `gantry lock`: resolves gantry.yaml to gantry.lock. Everything later reads the lock, and nothing
//! later looks up a tag again.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use resolve::{LeftOutCause, LeftOutImage, LockedInput, UpgradeSelection};
use serde::Serialize;
use types::content_diff::{ContentDiff, ContentListing};
use types::lock::Lock;
use types::{ByteSize, Reference};

use crate::content_changes::format_changes;
use crate::context::{CommandContext, LimitArgs};
use crate::environment;
use crate::error::{CommandError, ErrorKind, Result};
use crate::ui;

/// Resolve gantry.yaml to gantry.lock: every chart, image, model and file to its digest.
///
/// Charts are rendered with their values, including hooks and tests, to find their images. Images that
/// are only possible (an operator may pull them, or a feature is off) are left out and listed;
/// `include:` in gantry.yaml carries them. Entries of
/// an earlier lock keep their digests; new entries are added, and those no longer needed are removed.
/// As long as nothing has changed the file stays identical byte for byte, so a difference in the lock
/// is worth a review. What changed is printed line by line, with the version and digest before and after.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry lock                          # add new entries, keep existing digests
  gantry lock --check                  # in CI: exit code 1 if the lock is out of date
  gantry lock --upgrade                # resolve everything again
  gantry lock --upgrade nginx --upgrade BAAI/bge-m3")]
pub(crate) struct LockArgs {
    /// Write nothing; fail if the lock is out of date.
    #[arg(long, conflicts_with = "upgrade")]
    check: bool,
    /// Resolve tags and versions again instead of keeping the locked digests: for everything, or only
    /// for NAME (a reference, chart, release or model); may be given several times.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    upgrade: Vec<String>,
    #[command(flatten)]
    limits: LimitArgs,
}

/// The cause of images that an operator may pull, or a feature that is off.
const POSSIBLE: &str = "possible";

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LockSummary {
    file: String,
    #[serde(rename = "changed")]
    is_changed: bool,
    #[serde(rename = "chartCount")]
    charts: usize,
    #[serde(rename = "imageCount")]
    images: usize,
    #[serde(rename = "modelCount")]
    models: usize,
    #[serde(rename = "fileCount")]
    files: usize,
    #[serde(rename = "blobCount")]
    blobs: usize,
    bytes: u64,
    /// What is other than in the lock before; absent where there was none, or the content is the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_changes: Option<ContentDiff>,
    /// The images that charts name and that are not carried, by release.
    #[serde(rename = "leftOut", skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<ReleaseLeftOut>,
}

/// The images of one release that are not carried.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ReleaseLeftOut {
    release: String,
    images: Vec<LeftOutEntry>,
}

#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
struct LeftOutEntry {
    image: Reference,
    /// Where the chart names it, for people.
    found_at: String,
    /// possible: an operator may pull it, or a feature is off. absent: no registry has it.
    cause: &'static str,
    reason: String,
}

impl LeftOutEntry {
    /// The reason in a table. A warning has said already what a registry answered.
    fn short_reason(&self) -> String {
        if self.cause == POSSIBLE { self.reason.clone() } else { "not found".to_owned() }
    }
}

pub(crate) fn run(context: &CommandContext, args: &LockArgs) -> Result<()> {
    let context = &context.with_limits(&args.limits);
    let input = environment::read_input(context)?;
    let path = context.resolve_file(environment::LOCK);
    let previous = environment::read_optional_lock(context)?;
    let upgrade = match args.upgrade.as_slice() {
        [] => UpgradeSelection::Nothing,
        // `--upgrade` without a name is an empty one (`default_missing_value`), and means everything.
        names if names.iter().any(String::is_empty) => UpgradeSelection::All,
        names => UpgradeSelection::Named(names.to_vec()),
    };
    let meter = context.ui.start_progress("lock");
    let lock = environment::run_online(context, meter.clone(), async |world| {
        resolve::lock_input(world, &input, previous.as_ref(), &upgrade)
            .await
            .map_err(CommandError::from)
    });
    meter.clear();
    let LockedInput { lock, left_out } = lock?;
    let text = lock.to_yaml()?;
    // The text is compared and not the parsed lock, so that `--check` also notices an edited file.
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    let is_changed = text != old;
    let summary = LockSummary {
        left_out: group_by_release(left_out),
        content_changes: previous.as_ref().and_then(|previous| compare_content(previous, &lock)),
        ..summarize_lock(&lock, path.display().to_string(), is_changed)
    };
    if args.check {
        if summary.is_changed {
            return Err(CommandError::new(
                ErrorKind::Failed,
                match &summary.content_changes {
                    Some(changes) => {
                        format!(
                            "{} is out of date:\n{}",
                            path.display(),
                            format_changes(changes).trim_end()
                        )
                    }
                    None => format!(
                        "{} is out of date: {}",
                        path.display(),
                        describe_difference(&old, &text)
                    ),
                },
            )
            .with_hint("run gantry lock and review the change"));
        }
    } else if summary.is_changed {
        environment::write_file(&path, &text)?;
    }
    context.ui.print_result(&summary, |summary| {
        let state = match (args.check, summary.is_changed) {
            (true, _) => "is up to date",
            (false, true) => "written",
            (false, false) => "unchanged",
        };
        let rows = vec![
            ["charts".to_owned(), summary.charts.to_string()],
            ["images".to_owned(), summary.images.to_string()],
            ["models".to_owned(), summary.models.to_string()],
            ["files".to_owned(), summary.files.to_string()],
            ["blobs".to_owned(), format!("{} ({})", summary.blobs, ByteSize(summary.bytes))],
        ];
        let counts = format!("{} {state}\n{}", summary.file, ui::format_rows(rows));
        let changes = match &summary.content_changes {
            Some(changes) => {
                format!("\nchanged since the lock before:\n{}", format_changes(changes))
            }
            None => String::new(),
        };
        format!("{}\n{changes}{}", counts.trim_end(), format_left_out(&summary.left_out))
    })
}

fn summarize_lock(lock: &Lock, file: String, is_changed: bool) -> LockSummary {
    let mut blobs: Vec<_> = lock.blobs().iter().map(|content| content.blob).collect();
    // Images share layers; each blob is counted once.
    blobs.sort();
    blobs.dedup();
    LockSummary {
        file,
        is_changed,
        charts: lock.charts.len(),
        images: lock.images.len(),
        models: lock.models.len(),
        files: lock.files.len(),
        blobs: blobs.len(),
        bytes: blobs.iter().map(|blob| blob.size).sum(),
        content_changes: None,
        left_out: vec![],
    }
}

/// What the new lock has other than the one before; `None` where the content is the same.
fn compare_content(before: &Lock, after: &Lock) -> Option<ContentDiff> {
    let diff = ContentListing::from_lock(before).diff(&ContentListing::from_lock(after));
    (!diff.is_empty()).then_some(diff)
}

fn group_by_release(left_out: Vec<LeftOutImage>) -> Vec<ReleaseLeftOut> {
    let mut releases: BTreeMap<String, Vec<LeftOutEntry>> = BTreeMap::new();
    for image in left_out {
        let LeftOutImage { release, reference: image, location: found_at, cause, reason } = image;
        let cause = match cause {
            LeftOutCause::Possible => POSSIBLE,
            LeftOutCause::Absent => "absent",
        };
        releases.entry(release).or_default().push(LeftOutEntry { image, found_at, cause, reason });
    }
    releases.into_iter().map(|(release, images)| ReleaseLeftOut { release, images }).collect()
}

/// The table of what is left out: a few images of each release, since some charts have hundreds.
fn format_left_out(releases: &[ReleaseLeftOut]) -> String {
    const OF_RELEASE: usize = 5;
    const SHOWN: usize = 30;
    let all = || releases.iter().flat_map(|release| &release.images);
    let possible = all().filter(|image| image.cause == POSSIBLE).count();
    let absent = all().count() - possible;
    if all().next().is_none() {
        return String::new();
    }
    let rows: Vec<_> = releases
        .iter()
        .flat_map(|release| {
            let first = release.images.iter().take(OF_RELEASE);
            first.map(|one| [release.release.clone(), one.image.to_string(), one.short_reason()])
        })
        .take(SHOWN)
        .collect();
    let more = possible + absent - rows.len();
    let table = ui::format_table(["release", "image", "reason"], rows);
    let counts = [(possible, "only possible"), (absent, "not found")];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, what)| format!("{count} {what}")).collect();
    let mut text = format!("\nleft out: {}\n{table}", counts.join(", "));
    if more > 0 {
        let _ = writeln!(text, "… and {more} more: gantry lock --output json");
    }
    if possible > 0 {
        text.push_str("carry them by include: possible in gantry.yaml, or by a list of images\n");
    }
    text
}

/// Describes the first line that differs, which in most cases names the entry that changed.
fn describe_difference(old: &str, new: &str) -> String {
    if old.is_empty() {
        return "there is no lock yet".to_owned();
    }
    let at = old.lines().zip(new.lines()).position(|(old, new)| old != new);
    match at {
        Some(at) => {
            let line = |text: &str| text.lines().nth(at).unwrap_or_default().trim().to_owned();
            format!("line {} is {:?}, but would be {:?}", at + 1, line(old), line(new))
        }
        None => "lines are missing or left over at the end".to_owned(),
    }
}
