//! Writing to files in pieces of a size that the page cache can take without delay.

use std::io::{self, Write};

/// The most that one write call takes. Longer ones cost more, not less: since ext4 and xfs have
/// large folios, a write of 128 KiB asks for as much memory in one piece, which a busy machine has
/// to find, and a virtual one has often given back to its host. Measured on Linux 6.18 in a virtual
/// machine, 1.2 GB to ext4: 0.3 s with 32 or 64 KiB, 1 to 3 s with 128 KiB and more
/// (docs/explanation/benchmarks.md). Below, system calls would begin to count.
const PIECE: usize = 64 << 10;

/// As [`Write::write_in_pieces`], but at most 64 KiB per system call.
pub fn write_in_pieces(file: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    bytes.chunks(PIECE).try_for_each(|piece| file.write_all(piece))
}

/// Reads the first byte of a file from its medium and not from the page cache, which may still have
/// it when the medium is gone. An empty file is not read.
pub fn probe_file(file: &std::fs::File) -> io::Result<()> {
    // A hint: where the system does not take it, a read from the cache has to do.
    #[cfg(target_os = "linux")]
    let _ =
        rustix::fs::fadvise(file, 0, std::num::NonZeroU64::new(4096), rustix::fs::Advice::DontNeed);
    let mut byte = [0];
    rustix::io::pread(file, &mut byte[..], 0)?;
    Ok(())
}
