//! What the subcommands that render charts share: helm's options, and opening the charts that the
//! command line or gantry.yaml names.

use std::path::PathBuf;

use remote::helm;
use resolve::OpenedChart;
use types::input::{self, ChartSource};

use crate::chart_values::{ChartValues, ValuesArgs};
use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};

/// The options of helm that decide how a chart renders.
#[derive(clap::Args)]
pub(crate) struct HelmRenderArgs {
    #[command(flatten)]
    pub(crate) values: ValuesArgs,
    /// The chart's version, or a range such as ^1.2; for charts in a registry or repository.
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// The name of the helm release.
    #[arg(long, value_name = "NAME")]
    release: Option<String>,
    /// The namespace that the chart is installed into.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The Kubernetes version to render for [default: 1.33.0].
    #[arg(long, value_name = "VERSION")]
    kube_version: Option<String>,
    /// An API version of the cluster beside the built-in ones, such as monitoring.coreos.com/v1; may be
    /// given several times.
    #[arg(long, value_name = "VERSION")]
    api_versions: Vec<String>,
}

impl HelmRenderArgs {
    /// The namespace (`--namespace`), if one was given.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Whether an option is given that only charts have, beside values and the namespace.
    pub(crate) fn is_for_chart(&self) -> bool {
        self.version.is_some()
            || self.release.is_some()
            || self.kube_version.is_some()
            || !self.api_versions.is_empty()
    }

    /// The chart of a source, with these options and values, as an entry of gantry.yaml would describe it.
    /// Paths on the command line are relative to the current folder, not to `-C`, and become absolute.
    pub(crate) fn to_input_chart(
        &self,
        source: ChartSource,
        values: &ChartValues,
        variants: &[Vec<PathBuf>],
    ) -> Result<input::InputChart> {
        let here = |path: &PathBuf| environment::make_absolute(path);
        let source = match source {
            ChartSource::Local(path) => ChartSource::Local(here(&path)?),
            other => other,
        };
        Ok(input::InputChart {
            source,
            version: self.version.clone(),
            release: self.release.clone(),
            namespace: self.namespace.clone(),
            kube_version: self.kube_version.clone(),
            api_versions: self.api_versions.clone(),
            values: values.files().to_vec(),
            set: values.set().clone(),
            variants: variants
                .iter()
                .map(|variant| variant.iter().map(here).collect::<Result<_>>())
                .collect::<Result<_>>()?,
            include: None,
            needs: vec![],
            pin: None,
        })
    }
}

/// Renders a chart with these values and no other options, as a stream of manifests.
pub(crate) fn render_chart(
    context: &CommandContext,
    source: ChartSource,
    values: &ValuesArgs,
    namespace: Option<&str>,
) -> Result<String> {
    let args = HelmRenderArgs {
        values: ValuesArgs::default(),
        version: None,
        release: None,
        namespace: namespace.map(str::to_owned),
        kube_version: None,
        api_versions: vec![],
    };
    let values = values.read_values()?;
    let release = open_chart(context, &args.to_input_chart(source, &values, &[])?, &[])?;
    release.render(None).map_err(|cause| CommandError::usage_error(cause.to_string()))
}

/// Parses chart arguments: `oci://…`, a folder, a `.tgz`, or the URL of an HTTP repository, which takes
/// the next argument as the chart's name.
pub(crate) fn parse_chart_sources(arguments: &[String]) -> Result<Vec<ChartSource>> {
    let mut sources = Vec::new();
    let mut rest = arguments.iter();
    while let Some(text) = rest.next() {
        let is_repository = text.starts_with("http://") || text.starts_with("https://");
        // An HTTP repository has many charts, so its URL takes the next argument as the name. The other
        // forms name a single chart.
        let name = if is_repository { rest.next().map(String::as_str) } else { None };
        sources.push(ChartSource::parse(text, name)?);
    }
    Ok(sources)
}

/// Opens a chart with its values and those of a variant. A local chart needs neither the store nor the
/// network; others are downloaded into the store.
pub(crate) fn open_chart(
    context: &CommandContext,
    chart: &input::InputChart,
    variant: &[PathBuf],
) -> Result<OpenedChart> {
    // A missing helm is reported before a chart is downloaded.
    let binary = helm::HelmBinary::locate()?;
    if let ChartSource::Local(path) = &chart.source {
        return Ok(resolve::open_local_chart(&context.directory, chart, path, variant, binary)?);
    }
    let meter = context.ui.start_progress("chart");
    let release = environment::run_online(context, meter.clone(), async |world| {
        Ok(resolve::open_chart(world, chart, variant, binary).await?)
    });
    meter.clear();
    release
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_url_of_a_repository_takes_the_next_argument_as_the_charts_name() {
        let parse = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
            parse_chart_sources(&arguments)
        };
        let sources =
            parse(&["https://charts.example", "app", "./own", "oci://ghcr.io/o/c"]).unwrap();
        assert_eq!(sources.len(), 3);
        assert!(matches!(&sources[0], ChartSource::Repository { name, .. } if name == "app"));
        assert!(matches!(&sources[1], ChartSource::Local(_)));
        assert!(matches!(&sources[2], ChartSource::Oci { .. }));
        assert!(parse(&["./own", "https://charts.example"]).is_err());
    }
}
