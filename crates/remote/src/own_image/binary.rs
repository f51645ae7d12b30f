//! A binary that is to become an image: what it runs on, and that it needs nothing beside itself.
//! Both stand in the ELF header and the program headers (the System V ABI, chapters 4 and 5).

use std::fs::File;
use std::path::{Path, PathBuf};

use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{Endianness, ReadCache};
use types::Platform;

use super::refused;
use crate::{Error, Result};

/// Largest binary that is taken. A debug build with all its symbols has 100 MB.
const MAX_SIZE: u64 = 1 << 30;
/// How to get one that is right.
const NEXT: &str = "take the one of a release, or make one with `cargo xtask dist`, and name it \
                    (`gantry image --binary FILE`, or `tools: [{gantry: [FILE]}]`)";

/// A static Linux binary.
#[derive(Debug, Clone)]
pub(super) struct Binary {
    pub(super) path: PathBuf,
    pub(super) platform: Platform,
    /// Bytes.
    pub(super) size: u64,
}

impl Binary {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |cause| Error::Read { what: path.display().to_string(), cause };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(refused(path, format!("it is no file; {NEXT}")));
        }
        let size = metadata.len();
        if size > MAX_SIZE {
            return Err(Error::TooLarge { what: path.display().to_string(), size, most: MAX_SIZE });
        }
        let platform = platform(&ReadCache::new(file))
            .map_err(|reason| refused(path, format!("{reason}; {NEXT}")))?;
        Ok(Self { path: path.to_owned(), platform, size })
    }
}

/// The platform of a static program, or why it is none.
fn platform(content: &ReadCache<File>) -> Result<Platform, String> {
    let foreign = |_| "it is no 64-bit Linux program (ELF)".to_owned();
    let header = FileHeader64::<Endianness>::parse(content).map_err(foreign)?;
    let endian = header.endian().map_err(foreign)?;
    let is_program = matches!(header.e_type(endian), elf::ET_EXEC | elf::ET_DYN);
    let is_linux = matches!(header.e_ident().os_abi, elf::ELFOSABI_NONE | elf::ELFOSABI_GNU);
    if !is_program || !is_linux {
        return Err("it is no 64-bit Linux program (ELF)".to_owned());
    }
    let architecture = match header.e_machine(endian) {
        elf::EM_X86_64 => "amd64",
        elf::EM_AARCH64 => "arm64",
        other => return Err(format!("it is for machine {other} of ELF, not for amd64 or arm64")),
    };
    for segment in header.program_headers(endian, content).map_err(foreign)? {
        if let Some(loader) = segment.interpreter(endian, content).map_err(foreign)? {
            return Err(format!(
                "it is linked dynamically (it needs {} and libraries), and the image has nothing \
                 but the binary",
                String::from_utf8_lossy(loader)
            ));
        }
    }
    Ok(Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None })
}
