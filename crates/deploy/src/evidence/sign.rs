//! Signatures as minisign makes and reads them (Ed25519 over BLAKE2b), so that an auditor needs
//! nothing of ours to check one: `minisign -Vm index.json -p key.pub`.

use std::fmt;
use std::io::Cursor;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign::{PublicKey, PublicKeyBox, SecretKey, SecretKeyBox, SignatureBox};

use super::{Error, Result};

/// What a secret key begins with, and where it says how it is encrypted: zeros for not at all
/// (minisign, `struct SeckeyStruct_`).
const ALGORITHM: &[u8] = b"Ed";
const KDF: std::ops::Range<usize> = 2..4;
/// A key file is two short lines.
const LONGEST: u64 = 4096;

/// A secret key.
pub struct Key(SecretKey);

/// A public key that is trusted.
#[derive(Clone)]
pub struct Trusted(PublicKey);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl fmt::Debug for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trusted({})", self.id())
    }
}

impl Key {
    /// Reads a secret key file of minisign; `password` opens one that is encrypted.
    pub fn read(path: &Path, password: Option<String>) -> Result<Self> {
        let text = read(path)?;
        let bad = |reason: String| Error::Key { reason: format!("{}: {reason}", path.display()) };
        let bytes = text.lines().nth(1).and_then(|line| STANDARD.decode(line.trim()).ok());
        let Some(bytes) = bytes.filter(|bytes| bytes.starts_with(ALGORITHM)) else {
            return Err(bad("it is no secret key of minisign (minisign -G makes one)".to_owned()));
        };
        if bytes.get(KDF) == Some(&[0, 0]) {
            // Not by its box: minisign 0.11 writes no checksum into a key that is not encrypted, and
            // the library wants one. Signing checks the key by its public half.
            let key = SecretKey::from_bytes(&bytes);
            return Ok(Self(key.map_err(|cause| bad(cause.to_string()))?));
        }
        // Without one the library would ask the terminal.
        let Some(password) = password else {
            return Err(bad(
                "it is encrypted: give its password in GANTRY_SIGN_PASSWORD".to_owned()
            ));
        };
        let key = SecretKeyBox::from(text).into_secret_key(Some(password));
        Ok(Self(key.map_err(|cause| bad(cause.to_string()))?))
    }

    /// The signature's file over these bytes. It is another one each time, since minisign adds noise.
    pub(super) fn sign(&self, bytes: &[u8], name: &str) -> Result<String> {
        // It is signed too. Without a time: the same evidence says the same.
        let comment: String = format!("gantry evidence of {name}")
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let public = PublicKey::from_secret_key(&self.0).map_err(key_error)?;
        let signed = minisign::sign(
            Some(&public),
            &self.0,
            Cursor::new(bytes),
            Some(&comment),
            Some("signature from gantry, by minisign"),
        );
        Ok(signed.map_err(key_error)?.into_string())
    }
}

impl Trusted {
    /// A public key: base64 as it stands in `site.yaml`, or the whole text of a key file.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let key = match text.contains('\n') {
            true => PublicKeyBox::from_string(text).and_then(PublicKeyBox::into_public_key),
            false => PublicKey::from_base64(text),
        };
        let bad = |cause: minisign::PError| Error::Key {
            reason: format!(
                "{:?} is no public key of minisign: {cause}",
                text.chars().take(80).collect::<String>()
            ),
        };
        Ok(Self(key.map_err(bad)?))
    }

    /// A public key in a file, or written out.
    pub fn read(given: &str) -> Result<Self> {
        let path = Path::new(given);
        if path.is_file() { Self::parse(&read(path)?) } else { Self::parse(given) }
    }

    /// The key's id, as minisign writes it.
    pub fn id(&self) -> String {
        id(self.0.keynum())
    }
}

/// Checks a signature's file over these bytes; gives the id of the key, and what the signer said.
pub(super) fn check(
    bytes: &[u8],
    signature: &str,
    trusted: &[Trusted],
) -> Result<(String, String)> {
    let bad = |reason: String| Error::Untrusted { reason };
    let signature = SignatureBox::from_string(signature)
        .map_err(|cause| bad(format!("it cannot be read: {cause}")))?;
    let signer = id(signature.keynum());
    let Some(key) = trusted.iter().find(|key| key.id() == signer) else {
        let known: Vec<String> = trusted.iter().map(Trusted::id).collect();
        return Err(bad(format!(
            "it is of the key {signer}, and trusted are: {}",
            known.join(", ")
        )));
    };
    minisign::verify(&key.0, &signature, Cursor::new(bytes), true, false, false)
        .map_err(|cause| bad(cause.to_string()))?;
    Ok((signer, signature.trusted_comment().unwrap_or_default()))
}

/// The id of the key that a signature names, not checked.
pub(super) fn signer(signature: &str) -> Option<String> {
    Some(id(SignatureBox::from_string(signature).ok()?.keynum()))
}

/// minisign prints the eight bytes as one little-endian number.
fn id(number: &[u8]) -> String {
    let digits: Vec<String> = number.iter().rev().map(|byte| format!("{byte:02X}")).collect();
    digits.concat()
}

fn key_error(cause: minisign::PError) -> Error {
    Error::Key { reason: cause.to_string() }
}

fn read(path: &Path) -> Result<String> {
    let failed = |cause| Error::Read { path: path.to_owned(), cause };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > LONGEST {
        return Err(Error::Key { reason: format!("{} is too long for a key", path.display()) });
    }
    std::fs::read_to_string(path).map_err(failed)
}
