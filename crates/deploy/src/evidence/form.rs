//! What a model's file is by its first bytes, not by its name: data only, or a program for Python's
//! unpickler. Archives (torch, numpy) are looked into; nothing is loaded.

use std::io::{self, Read};

use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ReaderAt, ZipArchive};
use serde::{Deserialize, Serialize};
use store::Source;
use types::Digest;

use super::pickle::{self, Danger, Found};

/// Members of an archive that are looked at; torch has one for each tensor.
const MOST_MEMBERS: u64 = 500_000;
/// Bytes of a packed member that are read: the pickles of torch are small, its tensors are not packed.
const MOST_UNPACKED: u64 = 1 << 30;
/// Names of members that are kept in the answer.
const LONGEST_NAME: usize = 300;
/// As much of a file as it takes to know it.
const HEAD: u64 = 512;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// safetensors: numbers with a JSON header. Data only.
    Safetensors,
    /// GGUF: numbers with a header. Data only.
    Gguf,
    /// A pickle.
    Pickle,
    /// A zip archive with pickles inside: what `torch.save` writes.
    PickleArchive,
    /// A zip archive without pickles (numpy's npz, Keras).
    Archive,
    /// A packed file whose inside is not looked into (joblib's gzip, zlib, lzma).
    Packed,
    /// Anything else; its name says what.
    Other,
}

/// What was found in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Looked {
    /// What it is.
    pub form: Form,
    /// The pickles in it, each with the member's name; the name is empty for the file itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pickles: Vec<Member>,
    /// What could not be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A pickle in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its name in the archive.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What is in it.
    #[serde(flatten)]
    pub found: Found,
}

impl Looked {
    /// The worst of its pickles; `None` where there is none.
    pub fn danger(&self) -> Option<Danger> {
        let worst = self.pickles.iter().map(|member| member.found.danger()).max();
        let unread = self.note.as_ref().map(|_| Danger::Unknown);
        worst.max(unread)
    }
}

/// Looks at a blob. `name` is the file's, which tells a pickle of protocol 0 or 1 from a text.
pub(super) fn look(
    source: &dyn Source,
    digest: &Digest,
    size: u64,
    name: &str,
) -> store::Result<Looked> {
    let mut head = Vec::new();
    let length = size.min(HEAD);
    let read = source.open(digest, 0..length)?.read_to_end(&mut head);
    read.map_err(|cause| store::Error::Read { what: digest.to_string(), cause })?;
    let blob = Blob { source, digest, size };
    let plain = |form| Looked { form, pickles: vec![], note: None };
    Ok(match form(&head, size, name) {
        Form::Pickle => {
            let found = pickle::read(source.open(digest, 0..size)?);
            let pickles = vec![Member { name: String::new(), found }];
            Looked { form: Form::Pickle, pickles, note: None }
        }
        Form::Archive => archive(blob),
        Form::Packed => Looked {
            note: Some("it is packed, and not looked into: it may hold a pickle".to_owned()),
            ..plain(Form::Packed)
        },
        form => plain(form),
    })
}

fn form(head: &[u8], size: u64, name: &str) -> Form {
    let extension =
        name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    let is_pickles = matches!(
        extension.as_str(),
        "bin" | "pt" | "pth" | "pkl" | "pickle" | "ckpt" | "joblib" | "dill" | "pt2" | "th"
    );
    let header = head.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
    let is_safetensors = header.is_some_and(|length| length <= size) && head.get(8) == Some(&b'{');
    match head {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => Form::Archive,
        // PROTO with a version that exists.
        [0x80, 2..=5, ..] => Form::Pickle,
        [b'G', b'G', b'U', b'F', ..] => Form::Gguf,
        _ if is_safetensors => Form::Safetensors,
        // gzip, zlib, bzip2, xz, lz4: what joblib packs with.
        [0x1f, 0x8b, ..]
        | [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..]
        | [b'B', b'Z', b'h', ..]
        | [0xfd, b'7', b'z', ..]
        | [0x04, 0x22, 0x4d, 0x18, ..]
            if is_pickles =>
        {
            Form::Packed
        }
        // Protocols 0 and 1 begin with any opcode; the name has to tell.
        [first, ..] if is_pickles && b"(c}])IiSVNKMJFGULl".contains(first) => Form::Pickle,
        _ => Form::Other,
    }
}

/// Looks for pickles in a zip archive: members of any name that begin like one, and `*.pkl`.
fn archive(blob: Blob<'_>) -> Looked {
    let mut looked = Looked { form: Form::Archive, pickles: vec![], note: None };
    if let Err(reason) = members(blob, &mut looked.pickles) {
        looked.note = Some(format!("the archive is not read to its end: {reason}"));
    }
    if !looked.pickles.is_empty() {
        looked.form = Form::PickleArchive;
    }
    looked
}

fn members(blob: Blob<'_>, pickles: &mut Vec<Member>) -> Result<(), String> {
    let text = |error: rawzip::Error| error.to_string();
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let locator = ZipArchive::with_max_search_space(1 << 20);
    let located = locator.locate_in_reader(blob, &mut buffer, blob.size);
    let zip = located.map_err(|(_, error)| text(error))?;
    let mut entries = zip.entries(&mut buffer);
    let mut count = 0;
    while let Some(entry) = entries.next_entry().map_err(text)? {
        count += 1;
        if count > MOST_MEMBERS {
            return Err(format!("it has more than {MOST_MEMBERS} members"));
        }
        if entry.is_dir() {
            continue;
        }
        let name = String::from_utf8_lossy(entry.file_path().as_ref()).into_owned();
        let method = entry.compression_method();
        let member = zip.get_entry(entry.wayfinder()).map_err(text)?;
        let unpacked = || -> Box<dyn Read + '_> {
            match method {
                CompressionMethod::STORE => Box::new(member.reader()),
                _ => {
                    Box::new(flate2::read::DeflateDecoder::new(member.reader()).take(MOST_UNPACKED))
                }
            }
        };
        if !matches!(method, CompressionMethod::STORE | CompressionMethod::DEFLATE) {
            return Err(format!("{} is packed in a way that is not read", shortened(&name)));
        }
        let mut head = [0; 2];
        let is_there = unpacked().read_exact(&mut head).is_ok();
        let is_pickle = is_there && matches!(head, [0x80, 2..=5]);
        // Tensors are stored under data/ and may begin with any byte.
        let is_tensor = name.rsplit_once('/').is_some_and(|(folder, file)| {
            folder.ends_with("/data") && file.bytes().all(|b| b.is_ascii_digit())
        });
        if name.ends_with(".pkl") || (is_pickle && !is_tensor) {
            let found = pickle::read(unpacked());
            pickles.push(Member { name: shortened(&name), found });
        }
    }
    Ok(())
}

fn shortened(name: &str) -> String {
    name.chars().take(LONGEST_NAME).collect()
}

/// A blob that is read anywhere.
#[derive(Clone, Copy)]
struct Blob<'a> {
    source: &'a dyn Source,
    digest: &'a Digest,
    size: u64,
}

impl ReaderAt for Blob<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let length = self.size.saturating_sub(offset).min(buffer.len() as u64);
        if length == 0 {
            return Ok(0);
        }
        let mut reader =
            self.source.open(self.digest, offset..offset + length).map_err(io::Error::other)?;
        let part = &mut buffer[..length as usize];
        reader.read_exact(part)?;
        Ok(part.len())
    }
}
