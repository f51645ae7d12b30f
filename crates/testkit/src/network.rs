//! The air gap: a command in a network of its own that has nothing but loopback.

use std::ffi::OsStr;
use std::process::Command;

use crate::tools;

/// A command that runs `program` with every network but a fresh loopback out of the picture.
///
/// Nothing that listens outside is reachable from it, this machine's other loopback included: the
/// servers that it is to meet are started by the same command (a shell script, mostly). Works as
/// root, and without where the kernel lets users make namespaces.
pub fn loopback_only_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = tools::tool_command("unshare");
    command.args(["--net", "--map-root-user", "--"]);
    command.args(["sh", "-c", r#"ip link set lo up && exec "$0" "$@""#]);
    command.arg(program);
    command
}
