//! The digest that names a blob: its hash, with the algorithm.

use std::fmt;
use std::str::FromStr;

use crate::foreign_text::clean_excerpt;
use crate::{Error, Result};

/// A hash algorithm of digests: the two that the OCI image-spec registers for every implementation
/// (descriptor.md, "Registered algorithms").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DigestAlgorithm {
    /// SHA-256, which nearly all content is named by.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl DigestAlgorithm {
    /// All algorithms.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name before the colon of a digest, and of the folder of such blobs in an OCI image layout.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many bytes the hash has.
    pub const fn hash_length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The folder of such blobs in an OCI image layout (image-spec, image-layout.md, "Blobs").
    pub const fn layout_folder(self) -> &'static str {
        match self {
            Self::Sha256 => "blobs/sha256",
            Self::Sha512 => "blobs/sha512",
        }
    }

    /// The digest that has these hex digits, in lower case and without the algorithm.
    pub fn parse_hex(self, hex: &str) -> Result<Digest> {
        match self {
            Self::Sha256 => parse_hex_bytes(self, hex).map(Digest::Sha256),
            Self::Sha512 => parse_hex_bytes(self, hex).map(Digest::Sha512),
        }
    }
}

impl FromStr for DigestAlgorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == text).ok_or_else(|| {
            Error::invalid_text("digest algorithm", text, "only sha256 and sha512 are supported")
        })
    }
}

impl fmt::Display for DigestAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The digest of a blob, written `sha256:<64 lower-case hex>` or `sha512:<128 lower-case hex>` (OCI
/// image-spec, descriptor.md, "Digests"). One content has a digest of each algorithm, and these are two
/// names: whoever refers to the content chooses one, and it is stored and verified under that one.
///
/// The order is that of the text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// The 32 bytes of a SHA-256.
    Sha256([u8; 32]),
    /// The 64 bytes of a SHA-512.
    Sha512([u8; 64]),
}

impl Digest {
    /// The algorithm.
    pub const fn algorithm(&self) -> DigestAlgorithm {
        match self {
            Self::Sha256(_) => DigestAlgorithm::Sha256,
            Self::Sha512(_) => DigestAlgorithm::Sha512,
        }
    }

    /// The bytes of the hash, without the algorithm: 32 or 64.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }

    /// A sha256 from its 64 hex digits, as Hugging Face and `sha256sum` write it.
    pub fn from_sha256_hex(hex: &str) -> Result<Self> {
        DigestAlgorithm::Sha256.parse_hex(hex)
    }

    /// The lower-case hex digits, without the algorithm: 64 or 128.
    pub fn hex(&self) -> String {
        encode_hex(self.as_bytes())
    }

    /// The first twelve hex digits, for tables that people read. Not unique enough to look up by.
    pub fn short_hex(&self) -> String {
        encode_hex(&self.as_bytes()[..6])
    }

    /// The path of the blob in an OCI image layout: `blobs/sha256/<hex>`.
    pub fn layout_path(&self) -> String {
        format!("{}/{}", self.algorithm().layout_folder(), self.hex())
    }

    /// `sha256-<hex>`: the digest where no colon may stand, as in cosign's tags and in the names of
    /// Ollama's blobs.
    pub fn dashed_text(&self) -> String {
        format!("{}-{}", self.algorithm(), self.hex())
    }
}

/// The bytes as lower-case hex digits.
fn encode_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    // Not by `format!` per byte: a lock or index can print a hundred thousand digests.
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
    text
}

fn parse_hex_bytes<const N: usize>(algorithm: DigestAlgorithm, hex: &str) -> Result<[u8; N]> {
    // By hand and not by a hex crate: upper case must be refused (OCI image-spec, "SHA-256"),
    // or one blob could have two names.
    let wrong = || {
        let reason = format!("it must have {} lower-case hex digits", 2 * N);
        Error::invalid_text(algorithm.name(), hex, reason)
    };
    if hex.len() != 2 * N {
        return Err(wrong());
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        match (parse_hex_digit(pair[0]), parse_hex_digit(pair[1])) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => return Err(wrong()),
        }
    }
    Ok(bytes)
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
        let wrong = |reason: String| Error::invalid_text("digest", text, reason);
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(wrong("it must begin with sha256: or sha512:".to_owned()));
        };
        let Ok(algorithm) = algorithm.parse::<DigestAlgorithm>() else {
            let algorithm = clean_excerpt(algorithm);
            return Err(wrong(format!(
                "its algorithm {algorithm} is not supported; only sha256 and sha512 are"
            )));
        };
        algorithm.parse_hex(hex).map_err(|_| {
            let digits = 2 * algorithm.hash_length();
            wrong(format!("{algorithm}: must be followed by {digits} lower-case hex digits"))
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

crate::text::serde_as_text!(Digest "^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    /// `printf '' | sha512sum`.
    const EMPTY_512: &str = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
         47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

    #[test]
    fn a_digest_prints_as_it_was_written() {
        for (text, short, path) in [
            (EMPTY, "e3b0c44298fc", "blobs/sha256/e3b0"),
            (EMPTY_512, "cf83e1357eef", "blobs/sha512/cf83"),
        ] {
            let digest: Digest = text.parse().unwrap();
            assert_eq!(digest.to_string(), text);
            assert_eq!(digest.short_hex(), short);
            assert!(digest.layout_path().starts_with(path));
            assert_eq!(digest.dashed_text(), text.replace(':', "-"));
        }
    }

    #[test]
    fn what_is_no_digest_is_refused_with_the_reason() {
        for wrong in ["", "sha256:", "sha512:00", &EMPTY.to_uppercase(), &EMPTY[..70], "sha256:zz"]
        {
            let error = wrong.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains("sha256") || error.contains("128"), "{error}");
        }
        // The digits of one algorithm are none of the other.
        for wrong in [EMPTY.replace("256", "512"), EMPTY_512.replace("512", "256")] {
            assert!(wrong.parse::<Digest>().is_err());
        }
    }

    #[test]
    fn an_algorithm_that_is_not_known_is_named() {
        for name in ["sha384", "blake3", "md5", "SHA256"] {
            let text = EMPTY.replace("sha256", name);
            let error = text.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains(&format!("algorithm {name} is not supported")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn every_digest_reads_back_and_sorts_as_its_text(
            short: [u8; 32], long in proptest::collection::vec(any::<u8>(), 64), other: [u8; 32]
        ) {
            let digests = [
                Digest::Sha256(short),
                Digest::Sha512(long.try_into().unwrap()),
                Digest::Sha256(other),
            ];
            for digest in digests {
                prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
                for other in digests {
                    prop_assert_eq!(digest.cmp(&other), digest.to_string().cmp(&other.to_string()));
                }
            }
        }
    }
}
