//! Finds the program that builds kustomizations, and runs it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use types::Cause;

use super::files::list_kustomization_files;
use crate::helm::HelmStop;
use crate::helm::process::{self, DEADLINE};
use crate::scratch::ScratchFolder;
use crate::{Error, Result};

/// A program that builds kustomizations, with the variable that names its path and its arguments
/// before the folder. In the order in which they are looked for.
const PROGRAMS: &[(&str, &str, &[&str])] =
    &[("kustomize", "GANTRY_KUSTOMIZE", &["build"]), ("kubectl", "GANTRY_KUBECTL", &["kustomize"])];

/// `kustomize`, or `kubectl` with kustomize in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KustomizeBinary {
    path: PathBuf,
    arguments: &'static [&'static str],
}

impl KustomizeBinary {
    /// Finds the program: the one in `GANTRY_KUSTOMIZE` or `GANTRY_KUBECTL`, else `kustomize` or
    /// `kubectl` on the `PATH`.
    ///
    /// # Errors
    /// [`Error::Program`] where there is none of them.
    pub fn locate() -> Result<Self> {
        let named = PROGRAMS.iter().find_map(|(_, variable, arguments)| {
            let path = std::env::var_os(variable).filter(|value| !value.is_empty())?;
            Some(Self { path: path.into(), arguments })
        });
        let on_path = || {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
            PROGRAMS.iter().find_map(|(name, _, arguments)| {
                let file =
                    folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
                Some(Self { path: file?, arguments })
            })
        };
        named.or_else(on_path).ok_or_else(|| Error::Program {
            program: "kustomize".into(),
            reason: "there is neither `kustomize` nor `kubectl` on the PATH, and a kustomization has to be \
                     built by one of them; install one, or set GANTRY_KUSTOMIZE or GANTRY_KUBECTL to its path"
                .into(),
        })
    }

    /// Builds the kustomization in a folder. Blocks until the program is done, at most five minutes.
    ///
    /// # Errors
    /// [`Error::Local`] for a kustomization that cannot be built, or that would fetch or run something.
    pub fn build(&self, folder: &Path) -> Result<String> {
        list_kustomization_files(folder)?;
        let home = ScratchFolder::new("gantry-kustomize-")?;
        let absolute = std::path::absolute(folder)
            .map_err(|cause| Error::Read { what: folder.display().to_string(), cause })?;
        let mut command = process::isolated_command(&self.path, home.path());
        command.args(self.arguments).args([OsString::from("--"), absolute.clone().into()]);
        let output =
            process::run_command(command, DEADLINE, &HelmStop::default()).map_err(|reason| {
                let text = format!("{}: {reason}", self.path.display());
                Error::Program { program: "kustomize".into(), reason: reason.with_text(text) }
            })?;
        if !output.success {
            let message = output.stderr.trim();
            let message = message.strip_prefix("Error: ").unwrap_or(message);
            // The user knows the folder by the path that they wrote.
            let message = message.replace(&*absolute.to_string_lossy(), &folder.to_string_lossy());
            let reason = Cause::from(format!("{} says: {message}", self.path.display()));
            return Err(Error::Local { path: folder.to_owned(), reason });
        }
        if !output.stderr.trim().is_empty() {
            tracing::debug!(folder = %folder.display(), "kustomize says: {}", output.stderr.trim());
        }
        Ok(output.stdout)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_kustomization_is_built_and_what_is_wrong_with_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let (base, prod) = (folder.path().join("base"), folder.path().join("prod"));
        for folder in [&base, &prod] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(base.join("kustomization.yaml"), "resources: [web.yaml]\n").unwrap();
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: nginx:1}]}\n";
        std::fs::write(base.join("web.yaml"), pod).unwrap();
        let tag = "resources: [../base]\nimages: [{name: nginx, newTag: '2'}]\n";
        std::fs::write(prod.join("kustomization.yaml"), tag).unwrap();
        let binary = KustomizeBinary::locate().unwrap();

        let built = binary.build(&prod).unwrap();

        assert!(built.contains("image: nginx:2"), "{built}");
        std::fs::write(prod.join("kustomization.yaml"), format!("{tag}namePrefix: [a]\n")).unwrap();
        let error = binary.build(&prod).unwrap_err().to_string();
        assert!(
            error.contains(&*prod.to_string_lossy()) && error.contains("namePrefix"),
            "{error}"
        );
    }
}
