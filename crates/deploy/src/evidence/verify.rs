//! Proves evidence long after: the signature over the index, and every part against it.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use super::index::{self, Index};
use super::sign::{self, Trusted};
use super::{Error, Result, archive};

/// What the signature says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum Signature {
    /// It is good, and of a trusted key.
    Good {
        /// The key's id.
        key: String,
        /// What the signer said with it.
        comment: String,
    },
    /// There is one, and no key was given to check it with.
    NotChecked {
        /// The id of the key that it names.
        key: Option<String>,
    },
    /// There is none, and none was asked for.
    None,
}

/// Evidence that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its index.
    pub index: Index,
    /// Its signature.
    pub signature: Signature,
}

/// Proves an archive or a folder: every part is there as the index has it, and nothing else. With
/// trusted keys the index has to be signed by one of them. Blocks on the disk.
pub fn verify(path: &Path, trusted: &[Trusted]) -> Result<Verified> {
    let mut files = archive::read(path)?;
    let shown = path.display().to_string();
    let altered = |what: &str, reason: String| Error::Altered { what: what.to_owned(), reason };
    let text = files.remove(index::PATH).ok_or_else(|| {
        altered(&shown, format!("it has no {}, so it is no evidence of Gantry's", index::PATH))
    })?;
    let signature = files.remove(index::SIGNATURE);
    let signature = signature.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    // Before the index is believed in anything.
    let signature = match (signature, trusted) {
        (Some(signature), []) => Signature::NotChecked { key: sign::signer(&signature) },
        (Some(signature), trusted) => {
            let (key, comment) = sign::check(&text, &signature, trusted)?;
            Signature::Good { key, comment }
        }
        (None, []) => Signature::None,
        (None, _) => return Err(Error::Untrusted { reason: "there is none".to_owned() }),
    };
    let index = Index::parse(&text)?;
    let mut known = BTreeSet::new();
    for part in &index.parts {
        let bytes = files
            .get(&part.path)
            .ok_or_else(|| altered(&part.path, "it is in the index and not there".to_owned()))?;
        if store::hash::sha256(bytes) != part.sha256 || bytes.len() as u64 != part.size {
            return Err(altered(&part.path, "it is not what the index says".to_owned()));
        }
        known.insert(part.path.as_str());
    }
    match files.keys().find(|path| !known.contains(path.as_str())) {
        Some(extra) => Err(altered(extra, "it is there and not in the index".to_owned())),
        None => Ok(Verified { index, signature }),
    }
}
