//! The platform that an image runs on: `linux/amd64`.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// Operating system, architecture and variant, written `linux/amd64` or `linux/arm/v7`
/// (OCI image-spec, image-index.md, "platform"). Where platforms are chosen, `all` is every one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// GOOS: `linux`, `windows`.
    pub os: String,
    /// GOARCH: `amd64`, `arm64`.
    pub architecture: String,
    /// `v7` or `v8` for arm; empty for most.
    pub variant: Option<String>,
}

impl Platform {
    /// `linux/amd64`.
    pub fn linux_amd64() -> Self {
        Self { os: "linux".into(), architecture: "amd64".into(), variant: None }
    }

    /// Every platform: with it all of an index is carried, whatever it lists.
    pub fn all() -> Self {
        Self { os: "all".into(), architecture: String::new(), variant: None }
    }

    /// Whether it stands for every platform.
    pub fn is_all(&self) -> bool {
        *self == Self::all()
    }

    /// Whether an image made for `self` can be used where `wanted` was asked for. A wanted platform
    /// without a variant accepts any variant; arm64 means v8 (containerd's platform defaults).
    pub fn satisfies(&self, wanted: &Self) -> bool {
        if wanted.is_all() {
            return true;
        }
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && match (&wanted.variant, &self.variant) {
                (None, _) => true,
                (Some(wanted), Some(own)) => wanted == own,
                // Some builders leave the variant of arm64 out; v8 is the only one there is.
                (Some(wanted), None) => self.architecture == "arm64" && wanted == "v8",
            }
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "all" {
            return Ok(Self::all());
        }
        let parts: Vec<&str> = text.split('/').collect();
        let valid = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        match parts.as_slice() {
            [os, architecture, rest @ ..] if rest.len() <= 1 && parts.iter().all(valid) => {
                Ok(Self {
                    os: (*os).to_owned(),
                    architecture: (*architecture).to_owned(),
                    variant: rest.first().map(|v| (*v).to_owned()),
                })
            }
            _ => Err(Error::invalid_text(
                "platform",
                text,
                "write os/architecture or os/architecture/variant, such as linux/amd64, or all",
            )),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("all");
        }
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

crate::text::serde_as_text!(Platform "^(all|[^/]+/[^/]+(/[^/]+)?)$");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_platform_without_a_variant_takes_any() {
        let arm: Platform = "linux/arm/v7".parse().unwrap();
        assert!(arm.satisfies(&"linux/arm".parse().unwrap()));
        assert!(!arm.satisfies(&"linux/arm/v6".parse().unwrap()));
        assert!(
            "linux/arm64"
                .parse::<Platform>()
                .unwrap()
                .satisfies(&"linux/arm64/v8".parse().unwrap())
        );
        let all: Platform = "all".parse().unwrap();
        assert!(arm.satisfies(&all) && !all.satisfies(&arm) && all.to_string() == "all");
        assert!("amd64".parse::<Platform>().is_err());
        assert!("linux/amd64/v1/x".parse::<Platform>().is_err());
    }
}
