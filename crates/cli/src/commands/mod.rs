//! The subcommands, one file each: a struct of arguments, whose doc comments are the help text, and a
//! function that runs it.

mod audit;
mod check;
mod completion;
mod config;
mod deploy;
mod diff;
mod doctor;
mod evidence;
mod extract;
mod fetch;
mod image;
mod images;
mod init;
mod inspect;
mod load;
mod lock;
mod man;
mod manifest_output;
mod models;
mod pack;
mod plan;
mod policy;
pub(crate) mod post_render;
mod relocate;
mod relocate_manifests;
mod render;
mod render_namespace;
mod resolve;
#[cfg(test)]
mod result_samples;
mod schema;
mod serve;
mod site_file;
mod store;
mod tether;
mod undeploy;
mod verify;
mod version;
mod webhook;

use clap::Subcommand;

use crate::context::CommandContext;
use crate::error::Result;

/// The subcommands. The order is that of `gantry --help`, which follows the data from gantry.yaml to
/// the cluster.
#[derive(Subcommand)]
pub(crate) enum GantryCommand {
    Init(init::InitArgs),
    Images(images::ImagesArgs),
    Lock(lock::LockArgs),
    Plan(plan::PlanArgs),
    Fetch(fetch::FetchArgs),
    Pack(pack::PackArgs),
    Image(image::ImageArgs),
    Verify(verify::VerifyArgs),
    Inspect(inspect::InspectArgs),
    Extract(extract::ExtractArgs),
    Diff(diff::DiffArgs),
    Load(load::LoadArgs),
    Serve(serve::ServeArgs),
    #[command(subcommand)]
    Models(models::ModelsCommand),
    Relocate(relocate::RelocateArgs),
    PostRender(post_render::PostRenderArgs),
    Render(Box<render::RenderArgs>),
    Check(check::CheckArgs),
    Deploy(deploy::DeployArgs),
    Undeploy(undeploy::UndeployArgs),
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    Webhook(Box<webhook::WebhookArgs>),
    Audit(Box<audit::AuditArgs>),
    Evidence(evidence::EvidenceArgs),
    #[command(subcommand)]
    Store(store::StoreCommand),
    #[command(hide = true)]
    Resolve(resolve::ResolveArgs),
    Doctor(doctor::DoctorArgs),
    #[command(subcommand)]
    Config(config::ConfigCommand),
    Schema(schema::SchemaArgs),
    Completion(completion::CompletionArgs),
    Man(man::ManArgs),
    #[command(hide = true)]
    Tether(tether::TetherArgs),
    Version(version::VersionArgs),
}

/// Runs one subcommand. `definition` describes the whole command line, for shell completions.
pub(crate) fn run_command(
    context: &CommandContext,
    mut command: GantryCommand,
    definition: fn() -> clap::Command,
) -> Result<()> {
    command.resolve_site_file(context);
    match command {
        GantryCommand::Init(args) => init::run(context, &args),
        GantryCommand::Images(args) => images::run(context, &args),
        GantryCommand::Lock(args) => lock::run(context, &args),
        GantryCommand::Plan(args) => plan::run(context, &args),
        GantryCommand::Fetch(args) => fetch::run(context, &args),
        GantryCommand::Image(args) => image::run(context, &args),
        GantryCommand::Pack(args) => pack::run(context, &args),
        GantryCommand::Verify(args) => verify::run(context, &args),
        GantryCommand::Inspect(args) => inspect::run(context, &args),
        GantryCommand::Extract(args) => extract::run(context, &args),
        GantryCommand::Diff(args) => diff::run(context, &args),
        GantryCommand::Load(args) => load::run(context, &args),
        GantryCommand::Serve(args) => serve::run(context, &args),
        GantryCommand::Relocate(args) => relocate_manifests::run(context, &args),
        GantryCommand::PostRender(args) => post_render::run(context, &args),
        GantryCommand::Render(args) => render::run_command(context, &args),
        GantryCommand::Check(args) => check::run(context, &args),
        GantryCommand::Resolve(args) => resolve::run(context, &args),
        GantryCommand::Deploy(args) => deploy::run(context, &args),
        GantryCommand::Undeploy(args) => undeploy::run(context, &args),
        GantryCommand::Tether(args) => tether::run(&args),
        GantryCommand::Policy(command) => policy::run(context, &command),
        GantryCommand::Audit(args) => audit::run_audit_command(context, &args),
        GantryCommand::Evidence(args) => evidence::run(context, &args),
        GantryCommand::Webhook(args) => webhook::run(context, &args),
        GantryCommand::Models(command) => models::run(context, &command),
        GantryCommand::Store(command) => store::run(context, &command),
        GantryCommand::Doctor(args) => doctor::run(context, &args),
        GantryCommand::Config(command) => config::run(context, &command),
        GantryCommand::Schema(args) => schema::run(context, &args),
        GantryCommand::Completion(args) => completion::run(context, &args, definition()),
        GantryCommand::Man(args) => man::run(context, &args, definition()),
        GantryCommand::Version(args) => version::run(context, &args),
    }
}
