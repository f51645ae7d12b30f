//! The target of a load, parsed from the command line: a registry or a store folder.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use types::Error;
use types::naming::RegistryPrefix;

/// A parsed `--to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadTarget {
    /// A registry, and the path that all names get in front of them: `registry.internal:5000/ai`.
    Registry(RegistryPrefix),
    /// A store folder: `./store`, `/srv/store`, `dir:store`.
    Store(PathBuf),
}

impl FromStr for LoadTarget {
    type Err = Error;

    /// Text that starts with `/`, `./`, `../` or `dir:` is a folder; everything else is a registry,
    /// with or without `oci://`. URLs of buckets and claims are refused: they take only models.
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(path) = text.strip_prefix("dir:") {
            return Ok(Self::Store(PathBuf::from(path)));
        }
        if text == "."
            || text == ".."
            || text.starts_with(['/'])
            || text.starts_with("./")
            || text.starts_with("../")
        {
            return Ok(Self::Store(PathBuf::from(text)));
        }
        // Without this check `s3://bucket` would be taken for a registry called `s3:`.
        for scheme in ["s3://", "gs://", "az://", "pvc://"] {
            if text.starts_with(scheme) {
                return Err(Error::Invalid {
                    what: "target",
                    text: text.to_owned(),
                    reason: format!(
                        "images and charts go to a registry (host[:port][/path]) or a store folder (./path); models go there with: gantry models push BUNDLE-FILE… --to {scheme}…, or as a target of site.yaml"
                    ).into(),
                });
            }
        }
        text.strip_prefix("oci://").unwrap_or(text).parse().map(Self::Registry)
    }
}

impl fmt::Display for LoadTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(prefix) => prefix.fmt(f),
            Self::Store(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_target_is_a_registry_unless_it_looks_like_a_path() {
        for registry in ["registry.internal:5000/ai", "oci://127.0.0.1:5000", "localhost:5000/x"] {
            assert!(matches!(registry.parse(), Ok(LoadTarget::Registry(_))), "{registry}");
        }
        for folder in ["./x", "/srv/x", "dir:x", "../x", "."] {
            assert!(matches!(folder.parse(), Ok(LoadTarget::Store(_))), "{folder}");
        }
        let error = "s3://bucket".parse::<LoadTarget>().unwrap_err().to_string();
        assert!(error.contains("gantry models push BUNDLE-FILE… --to s3://"), "{error}");
        assert!("https://x".parse::<LoadTarget>().is_err());
    }

    #[test]
    fn a_target_is_shown_as_it_was_written_without_its_scheme() {
        for (text, shown) in [
            ("oci://registry.internal:5000/ai", "registry.internal:5000/ai"),
            ("registry.internal:5000/ai", "registry.internal:5000/ai"),
            ("dir:my store", "my store"),
            ("/srv/store", "/srv/store"),
            ("..", ".."),
        ] {
            assert_eq!(text.parse::<LoadTarget>().unwrap().to_string(), shown);
        }
    }
}
