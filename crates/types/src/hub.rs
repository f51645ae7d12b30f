//! Identifiers of the Hugging Face Hub: model ids, commits, and git's ids of files.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// A model's id on the Hub: `org/name`, or `name` for the oldest ones (`gpt2`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(String);

impl ModelId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The repository of the model in an OCI registry: the id in lower case, since OCI allows no
    /// upper case. The id as the Hub writes it is kept in [`crate::annotation::MODEL_ID`].
    pub fn repository(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl FromStr for ModelId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const MAX: usize = 96; // huggingface_hub 2.4: validate_repo_id
        let segment = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
                && !part.contains("--")
                && !part.contains("..")
        };
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| segment(part)) || text.len() > MAX {
            return Err(Error::invalid_text(
                "model id",
                text,
                "write org/name as the Hub shows it, such as BAAI/bge-m3",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A commit of a model's repository: 40 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(String);

impl CommitId {
    /// The 40 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Git's id of a file: `sha1("blob " + length + "\0" + bytes)`, 40 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GitId(String);

impl GitId {
    /// The 40 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn parse_sha1_hex(what: &'static str, text: &str) -> Result<String> {
    let valid =
        text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
    if valid {
        Ok(text.to_owned())
    } else {
        Err(Error::invalid_text(what, text, "it must have 40 lower-case hex digits"))
    }
}

impl FromStr for CommitId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        parse_sha1_hex("commit", text).map(Self)
    }
}

impl FromStr for GitId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        parse_sha1_hex("git id", text).map(Self)
    }
}

macro_rules! display {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
display!(ModelId, CommitId, GitId);
crate::text::serde_as_text!(ModelId, CommitId "^[0-9a-f]{40}$", GitId "^[0-9a-f]{40}$");
