//! What several subcommands share: reading the input, the lock and bundle files, setting up network
//! access, and running async work until it is done or the user stops it.

use std::fs;
use std::io::{IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use resolve::{FileComparison, ResolveContext};
use store::Source;
use store::progress::Progress;
use types::input::Input;
use types::lock::Lock;
use types::receipt::Receipt;
use types::site::Site;

use crate::context::CommandContext;
use crate::error::{CommandError, ErrorKind, Result};
use crate::ui;

/// The name of the input file.
pub(crate) const INPUT: &str = "gantry.yaml";
/// The name of the lock file.
pub(crate) const LOCK: &str = "gantry.lock";

/// Whether async work is running. It handles Ctrl-C by itself, so that the thread of
/// [`exit_when_stopped`] must not exit the process then.
static IS_ASYNC: AtomicBool = AtomicBool::new(false);

/// Reads gantry.yaml.
pub(crate) fn read_input(context: &CommandContext) -> Result<Input> {
    let path = context.resolve_file(INPUT);
    let text = fs::read_to_string(&path).map_err(|cause| {
        CommandError::usage_error(format!("cannot read {}: {cause}", path.display()))
            .with_hint("create one with: gantry init CHART, or name its folder with -C DIR")
    })?;
    Ok(Input::parse(&path.display().to_string(), &text)?)
}

/// Reads gantry.yaml if it exists.
pub(crate) fn read_optional_input(context: &CommandContext) -> Result<Option<Input>> {
    if context.resolve_file(INPUT).exists() { read_input(context).map(Some) } else { Ok(None) }
}

/// Reads gantry.lock.
pub(crate) fn read_lock(context: &CommandContext) -> Result<Lock> {
    read_optional_lock(context)?.ok_or_else(|| {
        let path = context.resolve_file(LOCK);
        CommandError::usage_error(format!("{} does not exist", path.display()))
            .with_hint("create it with: gantry lock")
    })
}

/// Reads gantry.lock for a verb that carries what it lists: where gantry.yaml is there too, the lock
/// must be the one of it, or something would be left out without a word.
///
/// # Errors
///
/// The input has changed since it was locked (exit code 2).
pub(crate) fn read_current_lock(context: &CommandContext) -> Result<Lock> {
    let lock = read_lock(context)?;
    if let Some(input) = read_optional_input(context)? {
        require_current_lock(context, &input, &lock, FileComparison::Content)?;
    }
    Ok(lock)
}

/// Refuses a lock whose input has changed since, and names the differences.
pub(crate) fn require_current_lock(
    context: &CommandContext,
    input: &Input,
    lock: &Lock,
    files: FileComparison,
) -> Result<()> {
    /// Differences that are named; more of them are counted.
    const SHOWN: usize = 8;
    let changes = resolve::list_input_changes(&context.directory, input, lock, files)?;
    if changes.is_empty() {
        return Ok(());
    }
    let mut named: Vec<String> = changes.iter().take(SHOWN).map(ToString::to_string).collect();
    if changes.len() > SHOWN {
        named.push(format!("and {} more", changes.len() - SHOWN));
    }
    let (input, lock) = (context.resolve_file(INPUT), context.resolve_file(LOCK));
    Err(CommandError::usage_error(format!(
        "{} has changed since {} was made of it: {}",
        input.display(),
        lock.display(),
        named.join("; ")
    ))
    .with_hint("bring the lock up to date with: gantry lock"))
}

/// Reads gantry.lock if it exists.
pub(crate) fn read_optional_lock(context: &CommandContext) -> Result<Option<Lock>> {
    let path = context.resolve_file(LOCK);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(Lock::parse(&path.display().to_string(), &text)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(CommandError::usage_error(format!("cannot read {}: {error}", path.display())))
        }
    }
}

/// Reads the lock in this file.
pub(crate) fn read_lock_at(path: &Path) -> Result<Lock> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|cause| {
        CommandError::usage_error(format!("cannot read {shown}: {cause}"))
            .with_hint("create it with: gantry lock")
    })?;
    Ok(Lock::parse(&shown, &text)?)
}

/// Reads a receipt that `gantry load` wrote.
pub(crate) fn read_receipt(path: &Path) -> Result<Receipt> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|cause| {
        CommandError::usage_error(format!("cannot read {shown}: {cause}"))
            .with_hint("`gantry load` writes one with --receipt FILE")
    })?;
    Ok(Receipt::parse(&shown, &text)?)
}

/// Reads a site file (site.yaml).
pub(crate) fn read_site(path: &Path) -> Result<Site> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|cause| CommandError::usage_error(format!("cannot read {shown}: {cause}")))?;
    Ok(Site::parse(&shown, &text)?)
}

/// The bundle files that arguments name: files, folders of bundle files, or the `.gantry.json` beside
/// them.
pub(crate) fn find_bundle_files(arguments: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut volumes = Vec::new();
    for path in arguments {
        let shown = path.display();
        if path.is_dir() {
            let mut found: Vec<PathBuf> = fs::read_dir(path)
                .map_err(|cause| {
                    CommandError::usage_error(format!("cannot read {shown}: {cause}"))
                })?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.extension().is_some_and(|extension| extension == "gantry"))
                .collect();
            if found.is_empty() {
                return Err(CommandError::usage_error(format!(
                    "{shown} contains no bundle files (*.gantry)"
                ))
                .with_hint("name the folder that `gantry pack -o` wrote to, or the files in it"));
            }
            // `read_dir` has no order; bundle files are read and reported in the order of their numbers.
            found.sort();
            volumes.extend(found);
        } else if is_bundle_manifest(path) {
            volumes.extend(bundle::BundleManifest::read(path)?.file_paths(path)?);
        } else if path.exists() {
            volumes.push(path.clone());
        } else {
            return Err(CommandError::usage_error(format!("{shown}: no such file")));
        }
    }
    Ok(volumes)
}

/// Whether an argument for [`find_bundle_files`] names one bundle file and not a bundle.
pub(crate) fn is_single_bundle_file(path: &Path) -> bool {
    !path.is_dir() && !is_bundle_manifest(path)
}

fn is_bundle_manifest(path: &Path) -> bool {
    path.to_string_lossy().ends_with(".gantry.json")
}

/// Opens what arguments name as a source of content: one store folder, or bundle files. While a store is
/// open, no other process collects garbage in it: what is being copied must not go away.
pub(crate) fn open_source(arguments: &[PathBuf]) -> Result<Arc<dyn Source>> {
    match find_store_folder(arguments) {
        Some(path) => {
            let store = store::Store::open_existing(path)?;
            store.keep_read_session()?;
            Ok(Arc::new(store))
        }
        None => open_bundle(arguments),
    }
}

/// As [`open_source`], for a server, which may run for months: garbage is collected beside it.
pub(crate) fn open_served_source(arguments: &[PathBuf]) -> Result<Arc<dyn Source>> {
    match find_store_folder(arguments) {
        Some(path) => Ok(Arc::new(store::Store::open_existing(path)?)),
        None => open_bundle(arguments),
    }
}

/// The folder of a store, if that is what arguments name.
fn find_store_folder(arguments: &[PathBuf]) -> Option<&Path> {
    match arguments {
        // A store is an OCI image layout, which always has an index.json.
        [path] if path.join("index.json").is_file() => Some(path),
        _ => None,
    }
}

fn open_bundle(arguments: &[PathBuf]) -> Result<Arc<dyn Source>> {
    Ok(Arc::new(bundle::Bundle::open(&find_bundle_files(arguments)?)?))
}

/// Reads manifests from standard input. `example` is a command line that provides some, as a hint.
pub(crate) fn read_manifests_from_stdin(example: &str) -> Result<String> {
    /// The largest charts render to a few MB. The limit keeps an endless stream from filling the memory.
    const LONGEST: u64 = 256 << 20;
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(CommandError::usage_error("no manifests on standard input").with_hint(example));
    }
    let mut bytes = Vec::new();
    stdin
        .take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|cause| CommandError::failure(format!("cannot read standard input: {cause}")))?;
    if bytes.len() as u64 > LONGEST {
        let most = types::ByteSize(LONGEST);
        return Err(CommandError::usage_error(format!("standard input is longer than {most}"))
            .with_hint("pass the manifests of one release at a time"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        CommandError::usage_error(format!(
            "standard input is not valid YAML: byte {at} is not UTF-8"
        ))
        .with_hint("pass the output of `helm template` or `kustomize build`")
    })
}

/// The absolute form of a path, for a program that may run in another folder.
pub(crate) fn make_absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|cause| {
        CommandError::usage_error(format!("{} is not a usable path: {cause}", path.display()))
    })
}

/// The path of the running `gantry` binary.
pub(crate) fn find_own_binary() -> Result<PathBuf> {
    std::env::current_exe().map_err(|cause| {
        CommandError::failure(format!("cannot find the path of the gantry binary: {cause}"))
    })
}

/// Writes a file atomically: readers see the old content or the new, never a part of it.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<()> {
    write_file_with_mode(path, text, 0o644)
}

/// As [`write_file`], with these permissions.
fn write_file_with_mode(path: &Path, text: &str, mode: u32) -> Result<()> {
    let failed = |cause: std::io::Error| {
        CommandError::failure(format!("cannot write {}: {cause}", path.display()))
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    // The temporary file is made in the same folder, since a rename is atomic on one file system only.
    // `tempfile` would make every file readable by its owner alone.
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// A result as indented JSON, for a report file at `path`.
pub(crate) fn format_report_json(path: &Path, result: &impl serde::Serialize) -> Result<String> {
    ui::format_json(result)
        .map_err(|cause| CommandError::failure(format!("cannot write {}: {cause}", path.display())))
}

/// As [`write_file`], and creates missing parent folders.
pub(crate) fn write_file_with_folders(path: &Path, text: &str) -> Result<()> {
    create_parent_folders(path)?;
    write_file(path, text)
}

/// As [`write_file_with_folders`], for a file that only its owner may read.
pub(crate) fn write_private_file_with_folders(path: &Path, text: &str) -> Result<()> {
    create_parent_folders(path)?;
    write_file_with_mode(path, text, 0o600)
}

fn create_parent_folders(path: &Path) -> Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::create_dir_all(folder).map_err(|cause| {
        CommandError::failure(format!("cannot create {}: {cause}", folder.display()))
    })
}

/// Runs async work that needs the network and the store.
pub(crate) fn run_online<T>(
    context: &CommandContext,
    progress: Arc<dyn Progress>,
    work: impl AsyncFnOnce(&ResolveContext) -> Result<T>,
) -> Result<T> {
    run_online_with(context, progress, None, work)
}

/// As [`run_online`], with the given number of parallel transfers.
pub(crate) fn run_online_with<T>(
    context: &CommandContext,
    progress: Arc<dyn Progress>,
    concurrency: Option<usize>,
    work: impl AsyncFnOnce(&ResolveContext) -> Result<T>,
) -> Result<T> {
    let store = context.open_store()?;
    let client = context.build_client(concurrency, &[])?;
    // The lock has addresses without their secrets; they are in the input, where there is one.
    if let Ok(Some(input)) = read_optional_input(context) {
        input.secret_urls().for_each(|url| client.remember_secret_url(url));
    }
    let mirrors = context.mirrors()?;
    let world =
        ResolveContext { client, mirrors, store, base: context.directory.clone(), progress };
    block_on(async { work(&world).await })
}

/// Runs async work to its end. Ctrl-C and SIGTERM stop it early; what was done so far is kept.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    block_on_with_cleanup(work, async || Ok(()))
}

/// As [`block_on`], with an orderly end: after the first Ctrl-C `stop` is called, and the work has
/// `grace` to end by itself. A second Ctrl-C ends it at once.
pub(crate) fn block_on_with_grace<T>(
    work: impl Future<Output = Result<T>>,
    stop: impl FnOnce(),
    grace: Duration,
) -> Result<T> {
    run_to_end(async {
        tokio::pin!(work);
        tokio::select! {
            outcome = &mut work => return outcome,
            () = wait_for_stop() => stop(),
        }
        // What it has done by then is seen by the next run, whatever it says here.
        tokio::select! {
            outcome = tokio::time::timeout(grace, &mut work) => drop(outcome),
            () = wait_for_stop() => {}
        }
        Err(stopped_error())
    })?
}

/// As [`block_on`], with a cleanup that runs in every case, also after Ctrl-C: it deletes what was
/// created elsewhere, such as pods. A second Ctrl-C skips it.
pub(crate) fn block_on_with_cleanup<T>(
    work: impl Future<Output = Result<T>>,
    after: impl AsyncFnOnce() -> Result<()>,
) -> Result<T> {
    run_to_end(async {
        // Whichever ends first. The work is dropped at its next await, and transfers keep their partial
        // files for the next run.
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = wait_for_stop() => Err(stopped_error()),
        };
        // The cleanup runs even if the work failed, and listens for a second Ctrl-C: a cluster that no
        // longer answers must not keep the user waiting.
        let after = tokio::select! {
            after = after() => after,
            () = wait_for_stop() => Ok(()),
        };
        // The error of the work tells more than one of the cleanup.
        let outcome = outcome?;
        after.map(|()| outcome)
    })?
}

fn stopped_error() -> CommandError {
    CommandError::new(ErrorKind::Partial, "stopped")
        .with_hint("what was done so far is kept; run the same command again to resume")
}

/// Runs async work that listens for Ctrl-C by itself.
fn run_to_end<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = build_runtime()?;
    IS_ASYNC.store(true, Ordering::Relaxed);
    let outcome = runtime.block_on(work);
    IS_ASYNC.store(false, Ordering::Relaxed);
    // Dropping the runtime waits for its blocking threads. Those that write to the disk stop at their
    // next chunk and keep the partial file.
    drop(runtime);
    Ok(outcome)
}

/// Makes Ctrl-C and SIGTERM exit the process and remove helm's temporary files, for work that is not
/// async. (Async work is stopped by [`block_on`].)
pub(crate) fn exit_when_stopped() -> Result<()> {
    // A thread with a runtime of its own, since the main thread is blocked in helm or in a render.
    let runtime = build_runtime()?;
    std::thread::spawn(move || {
        runtime.block_on(wait_for_stop());
        // No destructor runs when a process exits here, so helm's temporary folders, with values and
        // credentials in them, are removed explicitly.
        if !IS_ASYNC.load(Ordering::Relaxed) {
            remote::scratch::remove_scratch_folders();
            ui::exit_with_error(&CommandError::new(ErrorKind::Partial, "stopped"));
        }
    });
    Ok(())
}

/// A tokio runtime for network connections. Two threads suffice for the sockets, since reading,
/// writing and hashing happen on threads of their own.
pub(crate) fn build_runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|cause| CommandError::failure(format!("cannot start the async runtime: {cause}")))
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn wait_for_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    // If SIGTERM cannot be handled, Ctrl-C alone still can.
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_bundle_files_of_a_folder_come_in_the_order_of_their_names_without_other_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.002.gantry", "b.001.gantry", "b.gantry.json", "notes.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = find_bundle_files(&[folder.path().to_owned()]).unwrap();
        assert_eq!(found, ["b.001.gantry", "b.002.gantry"].map(|name| folder.path().join(name)));
        // A file that is named is taken, whatever it is called.
        let named = folder.path().join("notes.txt");
        assert_eq!(find_bundle_files(std::slice::from_ref(&named)).unwrap(), [named]);
    }

    #[test]
    fn a_folder_without_bundle_files_and_a_missing_file_are_told_by_their_path() {
        let folder = tempfile::tempdir().unwrap();
        let empty = find_bundle_files(&[folder.path().to_owned()]).unwrap_err();
        assert!(empty.message().ends_with("contains no bundle files (*.gantry)"), "{empty:?}");
        assert_eq!(empty.kind(), ErrorKind::Usage);
        let missing = find_bundle_files(&[folder.path().join("x.gantry")]).unwrap_err();
        assert!(missing.message().ends_with("x.gantry: no such file"), "{missing:?}");
    }

    #[test]
    fn no_garbage_is_collected_in_a_store_that_is_open_as_a_source() {
        use store::progress::SilentProgress;
        use store::{GarbageMode, Store};
        let folder = tempfile::tempdir().unwrap();
        let digest = Store::open(folder.path()).unwrap().put_bytes(b"nobody names this").unwrap();
        let paths = [folder.path().to_owned()];
        let collect = || {
            // A store of its own, as another process has it.
            let store = Store::open_existing(folder.path()).unwrap();
            store
                .collect_garbage(GarbageMode::Remove, std::time::Duration::ZERO, &SilentProgress)
                .unwrap();
        };
        let served = open_served_source(&paths).unwrap();
        let source = open_source(&paths).unwrap();
        std::thread::scope(|scope| {
            let running = scope.spawn(collect);
            assert_eq!(store::read_blob(&*source, &digest, 100).unwrap(), b"nobody names this");
            drop(source);
            running.join().unwrap();
        });
        assert_eq!(served.blob_size(&digest).unwrap(), None);
    }

    #[test]
    fn a_written_file_can_be_read_by_others_and_replaces_the_old_one_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/report.json");
        assert!(write_file(&path, "x").is_err());
        write_file_with_folders(&path, "a longer text").unwrap();
        write_file(&path, "short").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "short");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
