//! The id of a bundle.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A bundle's id: the BLAKE3 hash of its plan, written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleId(pub [u8; 32]);

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for BundleId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BundleId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The library takes upper case as well; an id is compared as text by other tools.
        let hash = blake3::Hash::from_hex(&text).map_err(serde::de::Error::custom)?;
        if hash.to_hex().as_str() != text {
            return Err(serde::de::Error::custom("it must have lower-case hex digits only"));
        }
        Ok(Self(*hash.as_bytes()))
    }
}
