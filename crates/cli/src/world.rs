//! What several verbs do alike: read the input and the lock, set up the way out, run async work
//! until it is done or the user says stop.

use std::fs;
use std::io::{IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use resolve::World;
use store::Source;
use store::progress::Progress;
use types::input::Input;
use types::lock::Lock;
use types::receipt::Receipt;
use types::site::Site;

use crate::context::Context;
use crate::error::{self, CommandError, Kind, Result};

/// The input's file name.
pub(crate) const INPUT: &str = "gantry.yaml";
/// The lock's file name.
pub(crate) const LOCK: &str = "gantry.lock";

/// Whether async work is on, which ends by itself when it is told to stop.
static IS_ASYNC: AtomicBool = AtomicBool::new(false);

/// The input.
pub(crate) fn input(context: &Context) -> Result<Input> {
    let path = context.file(INPUT);
    let text = fs::read_to_string(&path).map_err(|cause| {
        CommandError::usage(format!("cannot read {}: {cause}", path.display()))
            .hint("write one with: gantry init CHART, or name its folder with -C")
    })?;
    Ok(Input::parse(&path.display().to_string(), &text)?)
}

/// The input, where there is one.
pub(crate) fn optional_input(context: &Context) -> Result<Option<Input>> {
    if context.file(INPUT).exists() { input(context).map(Some) } else { Ok(None) }
}

/// The lock.
pub(crate) fn lock(context: &Context) -> Result<Lock> {
    optional_lock(context)?.ok_or_else(|| {
        let path = context.file(LOCK);
        CommandError::usage(format!("there is no {}", path.display()))
            .hint("make it with: gantry lock")
    })
}

/// The lock, where there is one.
pub(crate) fn optional_lock(context: &Context) -> Result<Option<Lock>> {
    let path = context.file(LOCK);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(Lock::parse(&path.display().to_string(), &text)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CommandError::usage(format!("cannot read {}: {error}", path.display()))),
    }
}

/// The lock in this file.
pub(crate) fn lock_at(path: &Path) -> Result<Lock> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|cause| {
        CommandError::usage(format!("cannot read {shown}: {cause}"))
            .hint("make it with: gantry lock")
    })?;
    Ok(Lock::parse(&shown, &text)?)
}

/// A receipt of `gantry load`.
pub(crate) fn receipt_at(path: &Path) -> Result<Receipt> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|cause| {
        CommandError::usage(format!("cannot read {shown}: {cause}"))
            .hint("`gantry load` writes it: --receipt FILE")
    })?;
    Ok(Receipt::parse(&shown, &text)?)
}

/// A site's description.
pub(crate) fn site(path: &Path) -> Result<Site> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|cause| CommandError::usage(format!("cannot read {shown}: {cause}")))?;
    Ok(Site::parse(&shown, &text)?)
}

/// The volume files that arguments name: files, folders with volumes, or a bundle's manifest.
pub(crate) fn volumes(arguments: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut volumes = Vec::new();
    for path in arguments {
        let shown = path.display();
        if path.is_dir() {
            let mut found: Vec<PathBuf> = fs::read_dir(path)
                .map_err(|cause| CommandError::usage(format!("cannot read {shown}: {cause}")))?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.extension().is_some_and(|extension| extension == "gantry"))
                .collect();
            if found.is_empty() {
                return Err(CommandError::usage(format!("{shown} has no .gantry volumes"))
                    .hint("name the folder that `gantry pack -o` wrote to, or its files"));
            }
            found.sort();
            volumes.extend(found);
        } else if path.to_string_lossy().ends_with(".gantry.json") {
            volumes.extend(bundle::Manifest::read(path)?.volume_paths(path)?);
        } else if path.exists() {
            volumes.push(path.clone());
        } else {
            return Err(CommandError::usage(format!("{shown}: there is no such file")));
        }
    }
    Ok(volumes)
}

/// What arguments name as a source: one store folder, or volumes.
pub(crate) fn source(arguments: &[PathBuf]) -> Result<Arc<dyn Source>> {
    if let [path] = arguments
        && path.join("index.json").is_file()
    {
        return Ok(Arc::new(store::Store::existing(path)?));
    }
    Ok(Arc::new(bundle::Bundle::open(&volumes(arguments)?)?))
}

/// Manifests from standard input. `example` is a command that gives some.
pub(crate) fn manifests(example: &str) -> Result<String> {
    /// What helm renders for one release is far below; a stream without end is not read so.
    const LONGEST: u64 = 256 << 20;
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(CommandError::usage("there are no manifests on standard input").hint(example));
    }
    let mut bytes = Vec::new();
    stdin
        .take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|cause| CommandError::failed(format!("cannot read standard input: {cause}")))?;
    if bytes.len() as u64 > LONGEST {
        let most = types::ByteSize(LONGEST);
        return Err(CommandError::usage(format!("there is more than {most} on standard input"))
            .hint("give the manifests of one release at a time"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        CommandError::usage(format!("standard input is no YAML: byte {at} is no UTF-8"))
            .hint("give what `helm template` or `kustomize build` print")
    })
}

/// The path of the binary that runs.
pub(crate) fn own_binary() -> Result<PathBuf> {
    std::env::current_exe()
        .map_err(|cause| CommandError::failed(format!("this binary has no path: {cause}")))
}

/// Writes a file whole or not at all.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let failed = |cause: std::io::Error| {
        CommandError::failed(format!("cannot write {}: {cause}", path.display()))
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// As [`write`], in a folder that is made where it is not there.
pub(crate) fn write_deep(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|cause| {
            CommandError::failed(format!("cannot make {}: {cause}", folder.display()))
        })?;
    }
    write(path, text)
}

/// Runs work that needs the way out.
pub(crate) fn run<T>(
    context: &Context,
    progress: Arc<dyn Progress>,
    work: impl AsyncFnOnce(&World) -> Result<T>,
) -> Result<T> {
    run_with(context, progress, None, work)
}

/// As [`run`], with as many transfers at once.
pub(crate) fn run_with<T>(
    context: &Context,
    progress: Arc<dyn Progress>,
    concurrency: Option<usize>,
    work: impl AsyncFnOnce(&World) -> Result<T>,
) -> Result<T> {
    let store = context.store()?;
    let client = context.client(concurrency, &[])?;
    let mirrors = context.mirrors()?;
    let world = World { client, mirrors, store, base: context.directory.clone(), progress };
    block_on(async { work(&world).await })
}

/// Runs async work to its end; Ctrl-C and SIGTERM end it early, with what is done kept.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    block_on_then(work, async || Ok(()))
}

/// As [`block_on`], with something to be done behind it in every case, also after Ctrl-C: what was
/// made somewhere else is taken away again. A second Ctrl-C leaves it.
pub(crate) fn block_on_then<T>(
    work: impl Future<Output = Result<T>>,
    after: impl AsyncFnOnce() -> Result<()>,
) -> Result<T> {
    let runtime = runtime()?;
    IS_ASYNC.store(true, Ordering::Relaxed);
    let outcome = runtime.block_on(async {
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = stopped() => Err(CommandError::new(Kind::Partial, "stopped")
                .hint("what came so far is kept; run the same command again to go on")),
        };
        let after = tokio::select! {
            after = after() => after,
            () = stopped() => Ok(()),
        };
        let outcome = outcome?;
        after.map(|()| outcome)
    });
    IS_ASYNC.store(false, Ordering::Relaxed);
    // Threads that write to the disk end at their next chunk and keep what they have.
    drop(runtime);
    outcome
}

/// Ends the process at Ctrl-C and SIGTERM with nothing of helm's left behind, for work that is not
/// async. (What is async ends by [`block_on`].)
pub(crate) fn end_when_stopped() -> Result<()> {
    let runtime = runtime()?;
    std::thread::spawn(move || {
        runtime.block_on(stopped());
        if !IS_ASYNC.load(Ordering::Relaxed) {
            remote::scratch::remove_all();
            error::end(&CommandError::new(Kind::Partial, "stopped"));
        }
    });
    Ok(())
}

/// Two threads turn the sockets; the work on disks and digests has threads of its own.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|cause| CommandError::failed(format!("the runtime cannot be started: {cause}")))
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
