//! What can go wrong with volumes.

use std::io;
use std::path::PathBuf;

use types::{ByteSize, Digest};

/// An error of writing or reading a bundle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is no volume that can be read, and why.
    #[error("{}: {fault}", path.display())]
    Volume {
        /// The file.
        path: PathBuf,
        /// Why.
        fault: Fault,
    },
    /// Volumes of the bundle were not given.
    #[error(
        "{} missing of the {count} volumes of {name}: {}; give all volumes of the bundle",
        missing_count(numbers),
        file_names(name, numbers)
    )]
    Missing {
        /// The bundle's name and version, as in file names.
        name: String,
        /// How many volumes it has.
        count: u32,
        /// The numbers of those that are missing.
        numbers: Vec<u32>,
    },
    /// A volume of another bundle was given with the others.
    #[error("{} belongs to another bundle ({}) than {} ({}); give volumes of one bundle", path.display(), short(*id), other.display(), short(*expected))]
    OtherBundle {
        /// The volume.
        path: PathBuf,
        /// Its bundle.
        id: crate::BundleId,
        /// The volume that it was compared with.
        other: PathBuf,
        /// That one's bundle.
        expected: crate::BundleId,
    },
    /// Two files are the same volume.
    #[error("{} and {} are both volume {number}; give each volume once", path.display(), other.display())]
    Duplicate {
        /// One.
        path: PathBuf,
        /// The other.
        other: PathBuf,
        /// Their number.
        number: u32,
    },
    /// No volume was given.
    #[error("no volume was given; name the .gantry files of a bundle")]
    NoVolume,
    /// A document in a volume is not what it should be.
    #[error("{}: {document} {reason}; the volume was not written whole, pack it again", path.display())]
    Document {
        /// The volume or the file beside it.
        path: PathBuf,
        /// The document's name.
        document: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Bytes of a volume are not those that were packed.
    #[error("{}: {entry} is damaged; copy the volume again from where it is whole", path.display())]
    Damaged {
        /// The volume.
        path: PathBuf,
        /// The entry's name in the tar.
        entry: String,
    },
    /// The bundle's name or version cannot stand in a file name.
    #[error("{text:?} cannot stand in a file name: {reason}")]
    Name {
        /// The name or version.
        text: String,
        /// Why.
        reason: &'static str,
    },
    /// What must stand together in one volume does not fit into the size.
    #[error("a volume of {} is too small for {what}; it needs {} at least", ByteSize(*size), ByteSize(*needed))]
    VolumeTooSmall {
        /// The size that was asked for.
        size: u64,
        /// What does not fit.
        what: &'static str,
        /// The least size that would do.
        needed: u64,
    },
    /// The bundle would have more volumes than file names can count.
    #[error("the bundle would have more than {most} volumes of {}; choose a larger volume size", ByteSize(*size))]
    TooManyVolumes {
        /// The size that was asked for.
        size: u64,
        /// The limit.
        most: u32,
    },
    /// A stream was asked for, and the plan has several volumes.
    #[error("the bundle has {count} volumes, and a stream takes one; leave the volume size away")]
    NotOneVolume {
        /// How many volumes the plan has.
        count: usize,
    },
    /// A blob of the source is not what its digest says.
    #[error(
        "{digest} is damaged in the store: its bytes are those of {actual}; run `gantry store verify`, then `gantry fetch`, then pack again"
    )]
    BlobDamaged {
        /// The blob.
        digest: Digest,
        /// What its bytes are.
        actual: Digest,
    },
    /// Another pack writes to the same place.
    #[error("another pack writes to {}; wait for it or choose another folder", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The disk has no room.
    #[error("no room in {}: {} more are needed, {} are free; make room and run the same command again, finished volumes are kept", path.display(), ByteSize(*needed), ByteSize(*free))]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Bytes that are still needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The source failed.
    #[error(transparent)]
    Source(#[from] store::Error),
    /// Reading failed.
    #[error("cannot read {what}: {cause}")]
    Read {
        /// The path.
        what: String,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
    /// Writing failed.
    #[error("cannot write {what}: {cause}")]
    Write {
        /// The path.
        what: String,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
}

/// Why a file is no volume that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Something else altogether.
    #[error("is no gantry volume")]
    Foreign,
    /// The file ends before its volume does.
    #[error("is cut: it has {actual} of {expected} bytes; copy it again")]
    Cut {
        /// The file's length.
        actual: u64,
        /// The volume's.
        expected: u64,
    },
    /// The file goes on after its volume ends.
    #[error("has {actual} bytes, {} more than the volume; copy it again", actual - expected)]
    Longer {
        /// The file's length.
        actual: u64,
        /// The volume's.
        expected: u64,
    },
    /// There is no end record where it should be.
    #[error("has no end record; it was not written or copied to its end, copy it again")]
    NoEnd,
    /// The end record is there, but its bytes are wrong.
    #[error("has a damaged end record; copy it again")]
    EndDamaged,
    /// The index is not the one that the end record names.
    #[error("has a damaged index; copy it again")]
    IndexDamaged,
    /// The index is whole, but does not describe a volume: a faulty or hostile writer.
    #[error("has an index that is not valid: {reason}")]
    IndexWrong {
        /// What is wrong.
        reason: String,
    },
    /// A newer Gantry wrote it, and it needs what this one does not have.
    #[error("needs {what}, which gantry {} does not read; use a newer gantry", env!("CARGO_PKG_VERSION"))]
    Newer {
        /// The feature.
        what: String,
    },
    /// Reading failed.
    #[error("cannot be read: {reason}")]
    Unreadable {
        /// The system's reason.
        reason: String,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Fault {
    /// The error of the volume at `path`.
    pub(crate) fn of(self, path: &std::path::Path) -> Error {
        Error::Volume { path: path.to_owned(), fault: self }
    }
}

fn missing_count(numbers: &[u32]) -> String {
    match numbers.len() {
        1 => "1 is".into(),
        more => format!("{more} are"),
    }
}

/// The file names of volumes, the first few of them.
fn file_names(name: &str, numbers: &[u32]) -> String {
    const SHOWN: usize = 10;
    let names: Vec<String> =
        numbers.iter().take(SHOWN).map(|number| crate::plan::file_name(name, *number)).collect();
    let rest = numbers.len().saturating_sub(SHOWN);
    if rest == 0 { names.join(", ") } else { format!("{} and {rest} more", names.join(", ")) }
}

fn short(id: crate::BundleId) -> String {
    id.to_string().chars().take(12).collect()
}
