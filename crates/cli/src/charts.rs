//! What the verbs that look at charts do alike: their options, and opening the charts that are
//! named on the command line or in gantry.yaml.

use std::path::PathBuf;

use remote::helm;
use resolve::Release;
use types::input::{self, ChartSource};

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::world;

/// How a chart is rendered: helm's own options.
#[derive(clap::Args)]
pub(crate) struct RenderArgs {
    /// A values file; the last one wins.
    #[arg(short = 'f', long = "values", value_name = "FILE")]
    values: Vec<PathBuf>,
    /// A value, as for helm.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The chart's version or a range of versions, for charts that are not on this machine.
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// The release's name.
    #[arg(long, value_name = "NAME")]
    release: Option<String>,
    /// The namespace that it is installed into.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The version of Kubernetes to render for [default: 1.33.0].
    #[arg(long, value_name = "VERSION")]
    kube_version: Option<String>,
    /// An API version that the cluster has beside the built-in ones (`monitoring.coreos.com/v1`).
    #[arg(long, value_name = "VERSION")]
    api_versions: Vec<String>,
}

impl RenderArgs {
    /// The namespace, where one was given.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The values files.
    pub(crate) fn values(&self) -> &[PathBuf] {
        &self.values
    }

    /// The chart of one source with these options. Paths of the command line are relative to where
    /// it was typed, not to `-C`.
    pub(crate) fn chart(
        &self,
        source: ChartSource,
        variants: &[Vec<PathBuf>],
    ) -> Result<input::Chart> {
        let here = |path: &PathBuf| {
            std::path::absolute(path).map_err(|cause| {
                CommandError::usage(format!("{} is no path: {cause}", path.display()))
            })
        };
        let source = match source {
            ChartSource::Local(path) => ChartSource::Local(here(&path)?),
            other => other,
        };
        Ok(input::Chart {
            source,
            version: self.version.clone(),
            release: self.release.clone(),
            namespace: self.namespace.clone(),
            kube_version: self.kube_version.clone(),
            api_versions: self.api_versions.clone(),
            values: self.values.iter().map(here).collect::<Result<_>>()?,
            set: self.set.clone(),
            variants: variants
                .iter()
                .map(|variant| variant.iter().map(here).collect::<Result<_>>())
                .collect::<Result<_>>()?,
            needs: vec![],
        })
    }
}

/// What a chart renders with these values files, for a look at it alone.
pub(crate) fn stream(
    context: &Context,
    source: ChartSource,
    values: &[PathBuf],
    namespace: Option<&str>,
) -> Result<String> {
    let args = RenderArgs {
        values: values.to_vec(),
        set: vec![],
        version: None,
        release: None,
        namespace: namespace.map(str::to_owned),
        kube_version: None,
        api_versions: vec![],
    };
    let release = open(context, &args.chart(source, &[])?, &[])?;
    release.render(None).map_err(|cause| CommandError::usage(cause.to_string()))
}

/// The sources that arguments name: `oci://…`, a folder, a `.tgz`, or an https repository followed
/// by the chart's name.
pub(crate) fn sources(arguments: &[String]) -> Result<Vec<ChartSource>> {
    let mut sources = Vec::new();
    let mut rest = arguments.iter();
    while let Some(text) = rest.next() {
        let is_repository = text.starts_with("http://") || text.starts_with("https://");
        let name = if is_repository { rest.next().map(String::as_str) } else { None };
        sources.push(ChartSource::parse(text, name)?);
    }
    Ok(sources)
}

/// Opens a chart with its values and those of a variant. One of this machine needs neither store
/// nor network.
pub(crate) fn open(
    context: &Context,
    chart: &input::Chart,
    variant: &[PathBuf],
) -> Result<Release> {
    let binary = helm::Binary::locate()?;
    if let ChartSource::Local(path) = &chart.source {
        return Ok(resolve::open_local(&context.directory, chart, path, variant, binary)?);
    }
    let meter = context.ui.progress("chart");
    let release = world::run(context, meter.clone(), async |world| {
        Ok(resolve::open_chart(world, chart, variant, binary).await?)
    });
    meter.clear();
    release
}
