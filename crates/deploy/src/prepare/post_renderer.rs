//! helm's post-renderer, `gantry post-render`: the command that helm runs, and for helm 4 the plugin
//! that wraps it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use remote::helm::PostRenderer;

use crate::{Error, Result};

/// The name under which helm 4 finds the plugin.
const NAME: &str = "gantry";

/// Helm 4's `plugin.yaml` (helm.sh/docs, plugins; `internal/plugin/metadata_v1.go`).
const PLUGIN: &str = "\
# Written by `gantry post-render --write-plugin`. It runs the gantry that wrote it.
# Helm 4 does not show what a plugin prints. If it fails, read error.txt beside this file.
apiVersion: v1
name: gantry
version: VERSION
type: postrenderer/v1
runtime: subprocess
runtimeConfig:
  platformCommand:
    - command: ${HELM_PLUGIN_DIR}/gantry
      args: [post-render, --error-file, \"${HELM_PLUGIN_DIR}/error.txt\"]
";

/// How helm runs `gantry post-render` for a site.
#[derive(Debug, Clone)]
pub struct PostRenderCommand {
    /// The gantry binary.
    pub program: PathBuf,
    /// The arguments that say where the site, the input and the lock are. Their paths are absolute:
    /// helm may run the post-renderer in another folder.
    pub arguments: Vec<String>,
}

impl PostRenderCommand {
    /// The post-renderer of one release, with further arguments. The plugin for helm 4 is written below
    /// `plugins` when that is given.
    pub(super) fn build(&self, more: Vec<String>, plugins: Option<&Path>) -> Result<PostRenderer> {
        if let Some(folder) = plugins {
            write_plugin_files(&folder.join(NAME), &self.program)?;
        }
        let mut arguments = self.arguments.clone();
        arguments.extend(more);
        Ok(PostRenderer {
            program: self.program.clone(),
            verb: vec!["post-render".to_owned()],
            plugins: plugins.map(Path::to_owned).unwrap_or_default(),
            plugin: NAME.to_owned(),
            arguments,
        })
    }
}

/// Writes a helm 4 plugin of type postrenderer/v1 that runs `program`, and returns its `plugin.yaml`.
pub fn write_plugin_files(folder: &Path, program: &Path) -> Result<PathBuf> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| Error::Write { path, cause }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let file = folder.join("plugin.yaml");
    fs::write(&file, PLUGIN.replace("VERSION", env!("CARGO_PKG_VERSION")))
        .map_err(failed(&file))?;
    // Helm 4 splits a plugin's command at spaces, and the path of the binary may contain some. A link
    // beside plugin.yaml avoids naming that path.
    let link = folder.join("gantry");
    if fs::symlink_metadata(&link).is_ok() {
        fs::remove_file(&link).map_err(failed(&link))?;
    }
    symlink(program, &link).map_err(failed(&link))?;
    Ok(file)
}
