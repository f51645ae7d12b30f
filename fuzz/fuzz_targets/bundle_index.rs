//! Parses any bytes as an index; what is accepted encodes to the same bytes.
#![no_main]

use bundle::BundleIndex;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, Vec<u8>)| {
    let (header_offset, bytes) = input;
    if let Ok(index) = BundleIndex::parse(&bytes, header_offset) {
        assert_eq!(index.encode(), bytes);
    }
});
