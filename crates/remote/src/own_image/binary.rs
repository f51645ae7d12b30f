//! Checks a binary before it is put into an image: for which platform it is, and that it is static.
//! Both can be read from the ELF header and the program headers (System V ABI, chapters 4 and 5).

use std::fs::File;
use std::path::{Path, PathBuf};

use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{Endianness, ReadCache, ReadRef};
use types::Platform;

use crate::{Error, Result};

/// Limit for a binary. A debug build with all symbols has about 100 MB.
const MAX_SIZE: u64 = 1 << 30;
/// The end of all messages: how to get a binary that works.
const NEXT: &str = "use the binary of a release, or build one with `cargo xtask dist`, and give its path \
                    (`gantry image --binary FILE`, or `tools: [{gantry: [FILE]}]`)";

/// A static Linux binary.
#[derive(Debug, Clone)]
pub(super) struct GantryBinary {
    pub(super) path: PathBuf,
    pub(super) platform: Platform,
    /// Its length in bytes.
    pub(super) size: u64,
}

impl GantryBinary {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |cause| Error::Read { what: path.display().to_string(), cause };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(binary_error(path, format!("it is not a regular file; {NEXT}")));
        }
        let size = metadata.len();
        if size > MAX_SIZE {
            return Err(Error::TooLarge { what: path.display().to_string(), size, most: MAX_SIZE });
        }
        let platform = detect_platform(&ReadCache::new(file))
            .map_err(|reason| binary_error(path, format!("{reason}; {NEXT}")))?;
        Ok(Self { path: path.to_owned(), platform, size })
    }
}

/// Detects the platform of a static Linux program; the error is the reason why it is not one.
fn detect_platform<'a>(content: impl ReadRef<'a>) -> Result<Platform, String> {
    let foreign = |_| "it is not a 64-bit Linux program (ELF)".to_owned();
    let header = FileHeader64::<Endianness>::parse(content).map_err(foreign)?;
    let endian = header.endian().map_err(foreign)?;
    // A static program may be position independent, so its type can be that of a shared library.
    let is_program = matches!(header.e_type(endian), elf::ET_EXEC | elf::ET_DYN);
    let is_linux = matches!(header.e_ident().os_abi, elf::ELFOSABI_NONE | elf::ELFOSABI_GNU);
    if !is_program || !is_linux {
        return Err("it is not a 64-bit Linux program (ELF)".to_owned());
    }
    let architecture = match header.e_machine(endian) {
        elf::EM_X86_64 => "amd64",
        elf::EM_AARCH64 => "arm64",
        other => {
            return Err(format!("it is built for ELF machine {other}, not for amd64 or arm64"));
        }
    };
    // A program header of type PT_INTERP names the dynamic loader: static programs have none.
    for segment in header.program_headers(endian, content).map_err(foreign)? {
        if let Some(loader) = segment.interpreter(endian, content).map_err(foreign)? {
            return Err(format!(
                "it is linked dynamically (it needs {} and libraries), but the image contains only \
                 the binary",
                printable_path(loader)
            ));
        }
    }
    Ok(Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None })
}

/// Makes a path from an untrusted file safe to print: no control characters, limited length.
fn printable_path(path: &[u8]) -> String {
    const SHOWN: usize = 100;
    let path = String::from_utf8_lossy(path);
    path.chars().filter(|sign| !sign.is_control()).take(SHOWN).collect()
}

pub(super) fn binary_error(path: &Path, reason: String) -> Error {
    Error::Local { path: path.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    // Numbers of the ELF specification: machines and kinds of segments.
    const X86_64: u16 = 62;
    const AARCH64: u16 = 183;
    const RISCV: u16 = 243;
    const LOAD: u32 = 1;
    const INTERP: u32 = 3;

    /// A program of one segment: the ELF header and one program header behind it.
    fn build_program(machine: u16, segment: u32) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(16, &3_u16.to_le_bytes());
        put(18, &machine.to_le_bytes());
        put(32, &64_u64.to_le_bytes());
        put(54, &56_u16.to_le_bytes());
        put(56, &1_u16.to_le_bytes());
        put(64, &segment.to_le_bytes());
        // The segment's content, for a loader: behind the headers.
        put(64 + 8, &120_u64.to_le_bytes());
        put(64 + 32, &11_u64.to_le_bytes());
        bytes.extend(b"/lib/ld.so\0");
        bytes
    }

    #[test]
    fn the_header_tells_the_platform_and_what_is_refused() {
        let of = |bytes: &[u8]| detect_platform(bytes).map(|platform| platform.to_string());
        assert_eq!(of(&build_program(X86_64, LOAD)).unwrap(), "linux/amd64");
        assert_eq!(of(&build_program(AARCH64, LOAD)).unwrap(), "linux/arm64");
        let mut object_file = build_program(X86_64, LOAD);
        object_file[16] = 1;
        let mut freebsd = build_program(X86_64, LOAD);
        freebsd[7] = 9;
        for (bytes, expected) in [
            (build_program(RISCV, LOAD), "not for amd64 or arm64"),
            (build_program(X86_64, INTERP), "dynamically (it needs /lib/ld.so"),
            (object_file, "not a 64-bit Linux program"),
            (freebsd, "not a 64-bit Linux program"),
            (b"#!/bin/sh\n".to_vec(), "not a 64-bit Linux program"),
            (vec![], "not a 64-bit Linux program"),
        ] {
            let reason = of(&bytes).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_binary_or_a_reason(
            segment in 0_u32..8,
            changes in proptest::collection::vec((0_usize..131, proptest::prelude::any::<u8>()), 0..12),
            length in 0_usize..=131,
        ) {
            let mut bytes = build_program(X86_64, segment);
            for (at, value) in changes {
                bytes[at] = value;
            }
            let _ = detect_platform(&bytes[..length]);
        }
    }
}
