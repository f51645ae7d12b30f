//! Detects the format of a model file by its first bytes rather than by its name: pure data, or a
//! pickle, which is a program for Python. Zip archives (torch, numpy) are searched for pickles.
//! Nothing is loaded or executed. `models` turns the result into findings.

use std::io::{self, Read};

use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ReaderAt, ZipArchive};
use serde::{Deserialize, Serialize};
use store::Source;
use types::Digest;

use crate::pickle::{self, ImportDanger, PickleContents};

/// The most members of an archive that are read. torch writes one for each tensor, so large models
/// have tens of thousands.
const MOST_MEMBERS: u64 = 500_000;
/// The most bytes that a compressed member may expand to, against zip bombs. The pickles of torch
/// are small, and its tensors are not compressed.
const MOST_UNPACKED: u64 = 1 << 30;
/// The most characters of a member name that are kept.
const LONGEST_NAME: usize = 300;
/// How many bytes of a file are read to detect its format.
const HEAD: u64 = 512;

/// The format of a model file, by what loading it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelFileFormat {
    /// safetensors: tensors with a JSON header. Pure data.
    Safetensors,
    /// GGUF: tensors with a binary header. Pure data.
    Gguf,
    /// A pickle: loading it runs a program.
    Pickle,
    /// A zip archive that contains pickles, as `torch.save` writes it.
    PickleArchive,
    /// A zip archive without pickles (numpy's npz, Keras).
    Archive,
    /// A compressed file that is not decompressed here (joblib's gzip, zlib, lzma).
    Packed,
    /// Any other format.
    Other,
}

/// The result of inspecting a model file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileInspection {
    /// The format.
    pub form: ModelFileFormat,
    /// The pickles in the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pickles: Vec<PickleMember>,
    /// What could not be inspected, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A pickle in a model file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PickleMember {
    /// Its name in the archive; empty if the file itself is the pickle.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it imports and calls.
    #[serde(flatten)]
    pub found: PickleContents,
}

impl FileInspection {
    /// The danger of its worst pickle; `None` without pickles. What could not be inspected is at
    /// least [`ImportDanger::Unknown`].
    pub fn worst_danger(&self) -> Option<ImportDanger> {
        let worst = self.pickles.iter().map(|member| member.found.worst_danger()).max();
        let unread = self.note.as_ref().map(|_| ImportDanger::Unknown);
        worst.max(unread)
    }
}

/// Inspects a blob. `name` is the file name; only it can tell a pickle of protocol 0 or 1, which
/// has no magic number, from a text.
pub(crate) fn inspect_file(
    source: &dyn Source,
    digest: &Digest,
    size: u64,
    name: &str,
) -> store::Result<FileInspection> {
    let mut head = Vec::new();
    let length = size.min(HEAD);
    let read = source.open_blob(digest, 0..length)?.read_to_end(&mut head);
    read.map_err(|cause| store::Error::Read { what: digest.to_string(), cause })?;
    let blob = BlobReader { source, digest, size };
    let plain = |form| FileInspection { form, pickles: vec![], note: None };
    Ok(match detect_format(&head, size, name) {
        // A new reader from the start: the head is not put back.
        ModelFileFormat::Pickle => {
            let found = pickle::read_pickles(source.open_blob(digest, 0..size)?);
            let pickles = vec![PickleMember { name: String::new(), found }];
            FileInspection { form: ModelFileFormat::Pickle, pickles, note: None }
        }
        ModelFileFormat::Archive => inspect_archive(blob),
        ModelFileFormat::Packed => FileInspection {
            note: Some(
                "it is compressed and was not inspected: it may contain a pickle".to_owned(),
            ),
            ..plain(ModelFileFormat::Packed)
        },
        form => plain(form),
    })
}

/// Detects the format by the first bytes of a file, and where they do not suffice by its name.
fn detect_format(head: &[u8], size: u64, name: &str) -> ModelFileFormat {
    let extension =
        name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    let is_pickles = matches!(
        extension.as_str(),
        "bin" | "pt" | "pth" | "pkl" | "pickle" | "ckpt" | "joblib" | "dill" | "pt2" | "th"
    );
    // safetensors: eight bytes of header length, then the header, a JSON object
    // (huggingface/safetensors, README, "Format").
    let header = head.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
    let is_safetensors = header.is_some_and(|length| length <= size) && head.get(8) == Some(&b'{');
    match head {
        // A local file header, or the end record of an empty archive (APPNOTE.TXT, 4.3).
        [b'P', b'K', 3 | 5, 4 | 6, ..] => ModelFileFormat::Archive,
        // The opcode PROTO with a protocol number that exists; 0 and 1 do not have the opcode.
        [0x80, 2..=5, ..] => ModelFileFormat::Pickle,
        [b'G', b'G', b'U', b'F', ..] => ModelFileFormat::Gguf,
        _ if is_safetensors => ModelFileFormat::Safetensors,
        // gzip, zlib, bzip2, xz and lz4: the compressions of joblib.
        [0x1f, 0x8b, ..]
        | [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..]
        | [b'B', b'Z', b'h', ..]
        | [0xfd, b'7', b'z', ..]
        | [0x04, 0x22, 0x4d, 0x18, ..]
            if is_pickles =>
        {
            ModelFileFormat::Packed
        }
        // Protocols 0 and 1 begin with any opcode that pushes a value, so the name has to decide.
        [first, ..] if is_pickles && b"(c}])IiSVNKMJFGULl".contains(first) => {
            ModelFileFormat::Pickle
        }
        _ => ModelFileFormat::Other,
    }
}

/// Searches a zip archive for pickles: members of any name that begin like one, and `*.pkl`.
fn inspect_archive(blob: BlobReader<'_>) -> FileInspection {
    let mut looked = FileInspection { form: ModelFileFormat::Archive, pickles: vec![], note: None };
    if let Err(reason) = find_pickle_members(blob, &mut looked.pickles) {
        looked.note = Some(format!("the archive could not be read completely: {reason}"));
    }
    if !looked.pickles.is_empty() {
        looked.form = ModelFileFormat::PickleArchive;
    }
    looked
}

/// Reads the members of a zip archive and collects the pickles among them. What was found before an
/// error stays in `pickles`.
fn find_pickle_members(
    blob: BlobReader<'_>,
    pickles: &mut Vec<PickleMember>,
) -> Result<(), String> {
    let text = |error: rawzip::Error| error.to_string();
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    // The end record of a zip may be followed by a comment of up to 64 KiB; 1 MiB is ample.
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
        // A new reader each time: the first two bytes are read, then the pickle from its start.
        let unpacked = || -> Box<dyn Read + '_> {
            match method {
                CompressionMethod::STORE => Box::new(member.reader()),
                _ => {
                    Box::new(flate2::read::DeflateDecoder::new(member.reader()).take(MOST_UNPACKED))
                }
            }
        };
        if !matches!(method, CompressionMethod::STORE | CompressionMethod::DEFLATE) {
            return Err(format!(
                "{} uses a compression method that Gantry cannot read",
                truncate_name(&name)
            ));
        }
        let mut head = [0; 2];
        let is_there = unpacked().read_exact(&mut head).is_ok();
        let is_pickle = is_there && matches!(head, [0x80, 2..=5]);
        // torch stores tensors as `<name>/data/<number>`; they may begin like a pickle by chance.
        let is_tensor = name.rsplit_once('/').is_some_and(|(folder, file)| {
            folder.ends_with("/data") && file.bytes().all(|b| b.is_ascii_digit())
        });
        if name.ends_with(".pkl") || (is_pickle && !is_tensor) {
            let found = pickle::read_pickles(unpacked());
            pickles.push(PickleMember { name: truncate_name(&name), found });
        }
    }
    Ok(())
}

fn truncate_name(name: &str) -> String {
    name.chars().take(LONGEST_NAME).collect()
}

/// Random access to a blob, which the zip reader needs: it begins with the directory at the end.
#[derive(Clone, Copy)]
struct BlobReader<'a> {
    source: &'a dyn Source,
    digest: &'a Digest,
    size: u64,
}

impl ReaderAt for BlobReader<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let length = self.size.saturating_sub(offset).min(buffer.len() as u64);
        if length == 0 {
            return Ok(0);
        }
        let mut reader = self
            .source
            .open_blob(self.digest, offset..offset + length)
            .map_err(io::Error::other)?;
        let part = &mut buffer[..length as usize];
        reader.read_exact(part)?;
        Ok(part.len())
    }
}
