//! Signs and verifies the index in the format of minisign (Ed25519 over BLAKE2b), so that an
//! auditor can verify it without Gantry: `minisign -Vm index.json -p key.pub`.

use std::fmt;
use std::io::Cursor;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign::{PublicKey, PublicKeyBox, SecretKey, SecretKeyBox, SignatureBox};

use crate::{Error, Result};

/// The first bytes of a secret key, and the bytes that name its key derivation function: zeros mean
/// that it is not encrypted (minisign, `struct SeckeyStruct_`).
const ALGORITHM: &[u8] = b"Ed";
const KDF: std::ops::Range<usize> = 2..4;
/// The most bytes of a key file, which has two short lines.
const LONGEST: u64 = 4096;

/// How many characters of a text that is not a key are quoted in the error.
const SHOWN: usize = 80;

/// A secret key that signs.
pub struct SigningKey(SecretKey);

/// A public key that is trusted.
#[derive(Clone)]
pub struct TrustedKey(PublicKey);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

impl fmt::Debug for TrustedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustedKey({})", self.id())
    }
}

impl SigningKey {
    /// Reads a secret key file of minisign; `password` decrypts one that is encrypted.
    ///
    /// # Errors
    /// A file that cannot be read or is not such a key, and a missing or wrong password.
    pub fn read(path: &Path, password: Option<String>) -> Result<Self> {
        let text = read_key_file(path)?;
        let bad = |reason, cause| Error::Key { key: path.display().to_string(), reason, cause };
        let bytes = text.lines().nth(1).and_then(|line| STANDARD.decode(line.trim()).ok());
        let Some(bytes) = bytes.filter(|bytes| bytes.starts_with(ALGORITHM)) else {
            return Err(bad("is not a secret key of minisign; create one with: minisign -G", None));
        };
        if bytes.get(KDF) == Some(&[0, 0]) {
            // Parsed by hand: minisign 0.11 writes no checksum into a key that is not encrypted,
            // and the library's own reader insists on one. A damaged key still fails: `sign` checks
            // it against its public half.
            let key = SecretKey::from_bytes(&bytes);
            return Ok(Self(key.map_err(|cause| bad("is damaged", Some(cause)))?));
        }
        // Without a password the library would ask for it on the terminal, and hang in CI.
        let Some(password) = password else {
            return Err(bad(
                "is encrypted; set its password in the variable GANTRY_SIGN_PASSWORD",
                None,
            ));
        };
        let key = SecretKeyBox::from(text).into_secret_key(Some(password));
        Ok(Self(key.map_err(|cause| {
            bad("cannot be decrypted with the password in GANTRY_SIGN_PASSWORD", Some(cause))
        })?))
    }

    /// Signs bytes and returns the content of the signature file. It differs each time, since
    /// minisign signatures contain random bytes.
    pub(crate) fn sign(&self, bytes: &[u8], name: &str) -> Result<String> {
        // The trusted comment, which the signature covers. minisign puts the time there; it is left
        // out, so that the same evidence has the same comment.
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

impl TrustedKey {
    /// Parses a public key: its base64, as in `site.yaml`, or the whole text of a key file.
    ///
    /// # Errors
    /// A text that is neither.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let key = match text.contains('\n') {
            true => PublicKeyBox::from_string(text).and_then(PublicKeyBox::into_public_key),
            false => PublicKey::from_base64(text),
        };
        let bad = |cause| Error::Key {
            key: format!("{:?}", text.chars().take(SHOWN).collect::<String>()),
            reason: "is not a public key of minisign",
            cause: Some(cause),
        };
        Ok(Self(key.map_err(bad)?))
    }

    /// Reads a public key from a file if one of that name exists, and parses the argument itself
    /// otherwise.
    ///
    /// # Errors
    /// A file that cannot be read, and a text that is not a public key.
    pub fn read(given: &str) -> Result<Self> {
        let path = Path::new(given);
        if path.is_file() { Self::parse(&read_key_file(path)?) } else { Self::parse(given) }
    }

    /// The key's id in hexadecimal, as minisign prints it.
    pub fn id(&self) -> String {
        format_key_id(self.0.keynum())
    }
}

/// Verifies a signature file over these bytes. Returns the id of the key and the trusted comment.
///
/// # Errors
/// [`Error::Untrusted`] if the signature is wrong or not of one of the trusted keys.
pub(crate) fn check_signature(
    bytes: &[u8],
    signature: &str,
    trusted: &[TrustedKey],
) -> Result<(String, String)> {
    let bad = |reason: &str, cause| Error::Untrusted { reason: reason.to_owned(), cause };
    let signature = SignatureBox::from_string(signature)
        .map_err(|cause| bad("it is not a signature file of minisign", Some(cause)))?;
    let signer = format_key_id(signature.keynum());
    let Some(key) = trusted.iter().find(|key| key.id() == signer) else {
        let known: Vec<String> = trusted.iter().map(TrustedKey::id).collect();
        let known = known.join(", ");
        return Err(bad(
            &format!("it was made with the key {signer}, but the trusted keys are: {known}"),
            None,
        ));
    };
    minisign::verify(&key.0, &signature, Cursor::new(bytes), true, false, false)
        .map_err(|cause| bad("it does not match the index", Some(cause)))?;
    Ok((signer, signature.trusted_comment().unwrap_or_default()))
}

/// Returns the id of the key that a signature names, without verifying anything.
pub(crate) fn read_signer_id(signature: &str) -> Option<String> {
    Some(format_key_id(SignatureBox::from_string(signature).ok()?.keynum()))
}

/// Formats a key id as minisign does: the eight bytes as one little-endian number in hexadecimal.
fn format_key_id(number: &[u8]) -> String {
    let digits: Vec<String> = number.iter().rev().map(|byte| format!("{byte:02X}")).collect();
    digits.concat()
}

fn key_error(cause: minisign::PError) -> Error {
    Error::Key { key: "the secret key".to_owned(), reason: "cannot sign", cause: Some(cause) }
}

/// Reads a key file, up to the size that a key may have.
fn read_key_file(path: &Path) -> Result<String> {
    let failed = |cause| Error::Read { path: path.to_owned(), cause };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > LONGEST {
        let key = path.display().to_string();
        return Err(Error::Key { key, reason: "is too large to be a key file", cause: None });
    }
    std::fs::read_to_string(path).map_err(failed)
}
