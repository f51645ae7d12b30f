//! The subcommands, one file each: a struct of arguments, whose doc comments are the help text, and a
//! function that runs it.

mod audit;
mod check;
mod completion;
mod deploy;
mod evidence;
mod fetch;
mod image;
mod images;
mod init;
mod inspect;
mod load;
mod lock;
mod models;
mod pack;
mod plan;
mod policy;
pub(crate) mod post_render;
mod relocate;
mod resolve;
mod serve;
mod store;
mod tether;
mod undeploy;
mod verify;
mod version;
mod webhook;

use clap::Subcommand;

use crate::context::Context;
use crate::error::Result;

/// The subcommands. The order is that of `gantry --help`, which follows the data from gantry.yaml to
/// the cluster.
#[derive(Subcommand)]
pub(crate) enum Command {
    Init(init::Args),
    Images(images::Args),
    Lock(lock::Args),
    Plan(plan::Args),
    Fetch(fetch::Args),
    Pack(pack::Args),
    Image(image::Args),
    Verify(verify::Args),
    Inspect(inspect::Args),
    Load(load::Args),
    Serve(serve::Args),
    #[command(subcommand)]
    Models(models::Command),
    Relocate(relocate::Args),
    PostRender(post_render::Args),
    Check(check::Args),
    Deploy(deploy::Args),
    Undeploy(undeploy::Args),
    #[command(subcommand)]
    Policy(policy::Command),
    Webhook(Box<webhook::Args>),
    Audit(audit::Args),
    Evidence(evidence::Args),
    #[command(subcommand)]
    Store(store::Command),
    #[command(hide = true)]
    Resolve(resolve::Args),
    Completion(completion::Args),
    #[command(hide = true)]
    Tether(tether::Args),
    Version(version::Args),
}

/// Runs one subcommand.
pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Init(args) => init::run(context, &args),
        Command::Images(args) => images::run(context, &args),
        Command::Lock(args) => lock::run(context, &args),
        Command::Plan(args) => plan::run(context, &args),
        Command::Fetch(args) => fetch::run(context, &args),
        Command::Image(args) => image::run(context, &args),
        Command::Pack(args) => pack::run(context, &args),
        Command::Verify(args) => verify::run(context, &args),
        Command::Inspect(args) => inspect::run(context, &args),
        Command::Load(args) => load::run(context, &args),
        Command::Serve(args) => serve::run(context, &args),
        Command::Relocate(args) => relocate::run(context, &args),
        Command::PostRender(args) => post_render::run(context, &args),
        Command::Check(args) => check::run(context, &args),
        Command::Resolve(args) => resolve::run(context, &args),
        Command::Deploy(args) => deploy::run(context, &args),
        Command::Undeploy(args) => undeploy::run(context, &args),
        Command::Tether(args) => tether::run(&args),
        Command::Policy(command) => policy::run(context, &command),
        Command::Audit(args) => audit::run(context, &args),
        Command::Evidence(args) => evidence::run(context, &args),
        Command::Webhook(args) => webhook::run(context, &args),
        Command::Models(command) => models::run(context, &command),
        Command::Store(command) => store::run(context, &command),
        Command::Completion(args) => completion::run(context, &args),
        Command::Version(args) => version::run(context, &args),
    }
}
