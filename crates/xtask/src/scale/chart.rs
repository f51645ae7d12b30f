//! One chart with many images: a pod each, all named by values, as a platform's umbrella chart has them.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::images::image_name;

/// The chart's folder, beside the input.
const FOLDER: &str = "chart";

/// Makes the chart in the folder, with the images of the input.
pub(super) fn make_chart(folder: &Path, images: usize) -> Result<(), Box<dyn Error>> {
    let chart = folder.join(FOLDER);
    fs::create_dir_all(chart.join("templates"))?;
    fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: scale\nversion: 1.0.0\n")?;
    let mut values = "apps:\n".to_owned();
    for number in 0..images {
        writeln!(values, "  app-{number}: {{image: {:?}}}", image_name(number))?;
    }
    fs::write(chart.join("values.yaml"), values)?;
    let template = "{{- range $name, $app := .Values.apps }}\n\
        ---\n\
        apiVersion: v1\n\
        kind: Pod\n\
        metadata: {name: {{ $name }}}\n\
        spec: {containers: [{name: app, image: {{ $app.image | quote }}}]}\n\
        {{- end }}\n";
    Ok(fs::write(chart.join("templates/pods.yaml"), template)?)
}
