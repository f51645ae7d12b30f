//! `gantry init`: writes a first gantry.yaml, where everything else starts.

use std::path::{Path, PathBuf};

use types::input::ChartSource;

use super::schema::PublishedSchema;
use crate::charts::parse_chart_sources;
use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};

/// The schema of gantry.yaml, beside it.
const SCHEMA: &str = "gantry.schema.json";

/// Write a commented gantry.yaml for one or more charts.
///
/// The file has every kind of entry with an example in a comment. Its JSON schema is written beside it
/// as gantry.schema.json and named in the first line, so that editors with a YAML language server
/// complete and check keys. A chart may be given as oci://…, as
/// the URL of a repository followed by the chart's name, as a folder or as a .tgz.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry init ./my-chart -f values.yaml
  gantry init oci://ghcr.io/org/charts/app --version 1.2.3
  gantry init https://charts.example/stable postgresql
  gantry init                                 # no chart: images and models only")]
pub(crate) struct InitArgs {
    /// Charts: oci://…, a folder, a .tgz, or the URL of a repository followed by the chart's name.
    #[arg(value_name = "CHART")]
    charts: Vec<String>,
    /// The version of the first chart.
    #[arg(long)]
    version: Option<String>,
    /// A values file of the first chart; may be given several times.
    #[arg(short = 'f', long = "values", value_name = "FILE")]
    values: Vec<String>,
    /// The name of the bundle [default: the name of the first chart].
    #[arg(long)]
    name: Option<String>,
    /// Overwrite an existing gantry.yaml and gantry.schema.json.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(context: &CommandContext, args: &InitArgs) -> Result<()> {
    let path = context.resolve_file(environment::INPUT);
    if path.exists() && !args.force {
        return Err(CommandError::usage_error(format!("{} exists already", path.display()))
            .with_hint("edit it, or overwrite it with --force"));
    }
    let schema_path = context.resolve_file(SCHEMA);
    let schema = PublishedSchema::find("input").map(PublishedSchema::to_json).unwrap_or_default();
    let is_other = std::fs::read_to_string(&schema_path).is_ok_and(|text| text != schema);
    if is_other && !args.force {
        return Err(CommandError::usage_error(format!(
            "{} exists already, with other content",
            schema_path.display()
        ))
        .with_hint("move it away, or overwrite it with --force"));
    }
    let mut charts = Vec::new();
    for source in parse_chart_sources(&args.charts)? {
        if let ChartSource::Local(path) = &source {
            check_local_chart(context, path)?;
        }
        // The options have no way to say which chart they are for, so they go to the first.
        let (version, values) = match charts.is_empty() {
            true => (args.version.clone(), args.values.clone()),
            false => (None, Vec::new()),
        };
        charts.push(resolve::init::InitChart { source, version, values });
    }
    for file in &args.values {
        let text = std::fs::read_to_string(context.directory.join(file)).map_err(|cause| {
            CommandError::usage_error(format!("cannot read the values file {file}: {cause}"))
                .with_hint("paths are relative to the folder of gantry.yaml (-C)")
        })?;
        chart::values::read_values(file, &text)?;
    }
    let name = args.name.clone().unwrap_or_else(|| {
        charts.first().map_or_else(|| "site".to_owned(), |chart| derive_bundle_name(&chart.source))
    });
    let text = resolve::init::render_input(&name, &charts)?;
    environment::write_file(&schema_path, &schema)?;
    // The language server resolves the path from the folder of the YAML file.
    let text = format!("# yaml-language-server: $schema=./{SCHEMA}\n{text}");
    environment::write_file(&path, &text)?;
    context.ui.print_status(&format!("{} written; next: gantry lock", path.display()));
    Ok(())
}

/// Requires that a path is that of a chart, so that the first `gantry lock` does not fail at it.
fn check_local_chart(context: &CommandContext, chart: &Path) -> Result<()> {
    let path = context.directory.join(chart);
    if !path.exists() {
        let shown = chart.display();
        return Err(CommandError::usage_error(format!("chart {shown}: no such folder or file"))
            .with_hint("paths are relative to the folder of gantry.yaml (-C); write oci://… for a chart in a registry"));
    }
    remote::helm::read_chart_metadata(&path)?;
    Ok(())
}

/// A bundle name from the last part of a chart's name: lower-case letters, digits, dots and dashes.
fn derive_bundle_name(source: &ChartSource) -> String {
    let text = match source {
        ChartSource::Oci { repository } => repository.clone(),
        ChartSource::Repository { name, .. } => name.clone(),
        ChartSource::Local(path) => {
            let path: PathBuf = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
        }
    };
    let last = text.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let plain: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let plain = plain.trim_matches(['-', '.']).to_owned();
    if plain.is_empty() { "site".to_owned() } else { plain }
}
