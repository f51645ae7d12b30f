//! The digest that names a blob: its sha256.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// The sha256 of a blob, written `sha256:<64 lower-case hex>` (OCI image-spec, descriptor.md,
/// "Digests"). The other algorithm that the specification registers, sha512, is not met in the
/// registries that Gantry reads and is refused with a clear error.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// A digest from the 32 bytes of a finished sha256.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A digest from 64 hex digits, as Hugging Face and `sha256sum` write it.
    pub fn from_hex(hex: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        // By hand and not by a hex crate: upper case must be refused (OCI image-spec, "SHA-256"),
        // or one blob could have two names.
        if hex.len() != 64 {
            return Err(Error::invalid_text("sha256", hex, "it must have 64 hex digits"));
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            match (parse_hex_digit(pair[0]), parse_hex_digit(pair[1])) {
                (Some(high), Some(low)) => *byte = high << 4 | low,
                _ => {
                    return Err(Error::invalid_text(
                        "sha256",
                        hex,
                        "it must have lower-case hex digits only",
                    ));
                }
            }
        }
        Ok(Self(bytes))
    }

    /// The 64 lower-case hex digits, without the algorithm.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(64);
        // Not by `format!` per byte: a lock or index can print a hundred thousand digests.
        for byte in self.0 {
            text.push(DIGITS[usize::from(byte >> 4)].into());
            text.push(DIGITS[usize::from(byte & 15)].into());
        }
        text
    }

    /// The first twelve hex digits, for tables that people read. Not unique enough to look up by.
    pub fn short_hex(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }
}

fn parse_hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some(hex) = text.strip_prefix("sha256:") else {
            return Err(Error::invalid_text("digest", text, "it must start with sha256:"));
        };
        Self::from_hex(hex).map_err(|_| {
            Error::invalid_text(
                "digest",
                text,
                "sha256: must be followed by 64 lower-case hex digits",
            )
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

crate::text::serde_as_text!(Digest "^sha256:[0-9a-f]{64}$");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_prints_as_it_was_written() {
        let digest: Digest = EMPTY.parse().unwrap();
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(digest.short_hex(), "e3b0c44298fc");
    }

    #[test]
    fn what_is_no_sha256_is_refused_with_the_reason() {
        for wrong in ["", "sha256:", "sha512:00", &EMPTY.to_uppercase(), &EMPTY[..70], "sha256:zz"]
        {
            let error = wrong.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains("sha256"), "{error}");
        }
    }
}
