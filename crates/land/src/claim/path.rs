//! `pvc://NAMESPACE/CLAIM[/sub/path]`: a volume of a cluster, as it stands on the command line and
//! in site.yaml.

use std::fmt;
use std::str::FromStr;

use types::snapshot::check_path;
use types::{Error, Result};

/// How a volume of a cluster is written.
pub const SCHEME: &str = "pvc://";

/// A PersistentVolumeClaim, and the folder in it that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimPath {
    /// The claim's namespace.
    pub namespace: String,
    /// The claim.
    pub claim: String,
    /// A folder in the volume, without slashes around; empty for the volume itself.
    pub folder: String,
}

impl FromStr for ClaimPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |reason: &str| Error::Invalid {
            what: "claim",
            text: text.to_owned(),
            reason: format!("{reason}; write pvc://NAMESPACE/CLAIM or pvc://NAMESPACE/CLAIM/FOLDER"),
        };
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| invalid("it has no pvc://"))?;
        let rest = rest.trim_end_matches('/');
        let (namespace, rest) = rest.split_once('/').ok_or_else(|| invalid("it has no claim"))?;
        let (claim, folder) = rest.split_once('/').unwrap_or((rest, ""));
        // RFC 1123: a label for the namespace, a subdomain for the claim.
        if !is_name(namespace, 63) || namespace.contains('.') {
            return Err(invalid("its namespace is no name of Kubernetes"));
        }
        if !is_name(claim, 253) {
            return Err(invalid("its claim is no name of Kubernetes"));
        }
        if !folder.is_empty()
            && let Err(reason) = check_path(folder)
        {
            return Err(invalid(&format!("its folder {reason}")));
        }
        let [namespace, claim, folder] = [namespace, claim, folder].map(str::to_owned);
        Ok(Self { namespace, claim, folder })
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.namespace, self.claim)?;
        if self.folder.is_empty() { Ok(()) } else { write!(f, "/{}", self.folder) }
    }
}

fn is_name(text: &str, longest: usize) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    !text.is_empty()
        && text.len() <= longest
        && text.chars().all(|c| is_word(c) || c == '-' || c == '.')
        && text.starts_with(is_word)
        && text.ends_with(is_word)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_claim_is_read_as_it_is_written_and_its_mistakes_are_named() {
        let path: ClaimPath = "pvc://onyx/model-cache/hub/all/".parse().unwrap();
        assert_eq!((path.claim.as_str(), path.folder.as_str()), ("model-cache", "hub/all"));
        assert_eq!(path.to_string(), "pvc://onyx/model-cache/hub/all");
        let wrong =
            ["pvc://onyx", "pvc:///claim", "pvc://a/B", "pvc://a/b/../c", "s3://a/b", "pvc://a.b/c"];
        for wrong in wrong {
            let error = wrong.parse::<ClaimPath>().unwrap_err().to_string();
            assert!(error.contains("pvc://NAMESPACE/CLAIM"), "{wrong}: {error}");
        }
    }
}
