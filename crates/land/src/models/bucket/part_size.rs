//! How long the parts of an upload are.

/// The length of a part: above the 5 MiB that S3 demands of all but the last, and large enough that the
/// number of requests does not matter.
const PART: u64 = 8 * MIB;

/// The most parts of one upload: S3's and Google's limit (Azure takes 50,000).
const PARTS: u64 = 10_000;

/// The unit of parts.
pub(super) const MIB: u64 = 1 << 20;

/// The length of each part but the last, so that no upload has more than [`PARTS`]. All are alike, since
/// some servers (Cloudflare R2) refuse parts of different lengths.
pub(super) fn part_size(size: u64) -> u64 {
    PART.max(size.div_ceil(PARTS).next_multiple_of(MIB))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_alike_and_no_more_than_a_server_takes() {
        for size in [1, PART, 80 << 30, 100 << 30, 5 << 40] {
            let part = part_size(size);
            assert!(part >= PART && part.is_multiple_of(MIB), "{size}");
            assert!(size.div_ceil(part) <= PARTS, "{size}");
        }
    }
}
