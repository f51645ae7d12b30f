//! What it was measured on: numbers say little without it.

use std::fs;
use std::path::Path;
use std::process::Command;

use testkit::tools;

/// The machine and the versions of all that took part.
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) system: String,
    pub(crate) disk: String,
    /// The load averages (1, 5, 15 minutes) before the first round.
    pub(crate) load: String,
    pub(crate) date: String,
    pub(crate) versions: Vec<(&'static str, String)>,
}

impl Machine {
    pub(crate) fn describe(gantry: &Path) -> Self {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
        let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
        let kilobytes: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let os = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            processor: format!("{cores} cores of {model}, {} GiB memory", kilobytes >> 20),
            system: format!(
                "{}, Linux {}",
                os.unwrap_or_default().trim_matches('"'),
                kernel.trim()
            ),
            disk: said(Command::new("findmnt").args(["-no", "FSTYPE,SOURCE", "-T", "target"])),
            load: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
            date: said(Command::new("date").args(["-u", "+%F %H:%M UTC"])),
            versions: vec![
                ("gantry", gantry_version(gantry)),
                (
                    "regctl",
                    said(tools::tool_command("regctl").args([
                        "version",
                        "--format",
                        "{{.VCSTag}}",
                    ])),
                ),
                ("crane", said(tools::tool_command("crane").arg("version"))),
                ("skopeo", said(tools::tool_command("skopeo").arg("--version"))),
                ("docker-registry", said(tools::tool_command("docker-registry").arg("--version"))),
                ("openssl", said(tools::tool_command("openssl").arg("version"))),
            ],
        }
    }
}

fn gantry_version(gantry: &Path) -> String {
    let version = said(Command::new(gantry).arg("--version"));
    let commit = said(Command::new("git").args(["describe", "--always", "--dirty"]));
    format!("{version} ({commit}), release build")
}

/// The first line of what a command prints.
fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    text.lines().next().unwrap_or("unknown").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `key : value` of a file of /proc.
fn field(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
