//! The test environment for people and scripts: the same one that tests build, running for as long
//! as its standard input is open.
//!
//! ```text
//! testkit world FOLDER [fast|slow|cluster] registries, Hub and configuration; FOLDER/world.env has their
//!                                          addresses. cluster: the nodes of dev/cluster trust the site's registry
//! testkit images [fast|slow|cluster]       makes the images, if they are not made yet, and lists them
//! testkit models FOLDER                    FOLDER/{gguf,ollama,hub}: what the cluster's servers load
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's results and its usage")]

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use gantry_testkit::{TestCluster, TestEnvironment, TestHub, TestImages, TestRegistry, workloads};

fn main() -> ExitCode {
    // A panic here is a tool that is missing: its words are enough, where it happened is noise.
    std::panic::set_hook(Box::new(|panic| eprintln!("testkit: {}", format_panic(panic))));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["world", folder] | ["world", folder, "fast"] => {
            serve_environment(Path::new(folder), &TestEnvironment::fast())
        }
        ["world", folder, "slow"] => serve_environment(Path::new(folder), &TestEnvironment::slow()),
        ["world", folder, "cluster"] => serve_cluster_environment(Path::new(folder)),
        ["images"] | ["images", "fast"] => print_images(&TestImages::fast()),
        ["images", "slow"] => print_images(&TestImages::slow()),
        ["images", "cluster"] => print_images(&TestImages::cluster()),
        ["models", folder] => build_models(Path::new(folder)),
        _ => {
            eprintln!(
                "usage: testkit world FOLDER [fast|slow|cluster] | testkit images [fast|slow|cluster] | \
                 testkit models FOLDER"
            );
            ExitCode::from(2)
        }
    }
}

/// The environment of the cluster tests: a site's registry that the cluster's nodes reach and trust.
fn serve_cluster_environment(folder: &Path) -> ExitCode {
    let cluster = TestCluster::from_environment();
    let world = TestEnvironment::from_parts(
        TestImages::cluster(),
        TestRegistry::builder(),
        TestHub::builder().minilm(),
    );
    let world = world.with_site(TestRegistry::builder().address(cluster.host()));
    let _trust = cluster.trust_registry(world.site());
    serve_environment(folder, &world)
}

fn serve_environment(folder: &Path, world: &TestEnvironment) -> ExitCode {
    let mut text = String::new();
    for (name, value) in [
        ("UPSTREAM", world.upstream().host().to_owned()),
        ("SITE", world.site().host().to_owned()),
        ("HUB", world.hub().url()),
        ("GANTRY_CONFIG", world.config_file().display().to_string()),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}='{value}'");
    }
    // Under its name only when it is whole: who waits for it reads all of it.
    let (part, whole) = (folder.join("world.env.part"), folder.join("world.env"));
    let written = std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, &whole));
    if let Err(error) = written {
        eprintln!("testkit: cannot write {}: {error}", whole.display());
        return ExitCode::FAILURE;
    }
    // The process that started this holds the other end of the pipe. When it ends, in whatever way,
    // so does the environment.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}

fn print_images(images: &TestImages) -> ExitCode {
    for image in images.iter() {
        println!("{:>11}  {}  {}", image.bytes(), image.platforms.join(","), image.reference);
    }
    println!("{:>11}  all, each blob once", images.unique_bytes());
    ExitCode::SUCCESS
}

fn build_models(folder: &Path) -> ExitCode {
    let gguf = folder.join("gguf");
    let copied = std::fs::create_dir_all(&gguf)
        .and_then(|()| std::fs::copy(workloads::gguf_path(), gguf.join("gantry-tiny.gguf")));
    if let Err(error) = copied {
        eprintln!("testkit: cannot write {}: {error}", gguf.display());
        return ExitCode::FAILURE;
    }
    workloads::write_ollama_models(&folder.join("ollama"));
    workloads::write_hub_cache(&folder.join("hub"));
    ExitCode::SUCCESS
}

fn format_panic(panic: &std::panic::PanicHookInfo<'_>) -> String {
    panic.payload_as_str().unwrap_or("failed").to_owned()
}
