//! Opens any bytes as a volume, then as a bundle, and reads what it claims to have.
//! Seeds: docs/formats/vectors/bundle.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use bundle::{Bundle, ReadAt, Set, Volume};
use libfuzzer_sys::fuzz_target;
use store::Source;

fuzz_target!(|bytes: Vec<u8>| {
    let data: Arc<dyn ReadAt> = Arc::new(bytes);
    let Ok(volume) = Volume::read(Path::new("volume"), &data) else { return };
    let digests: Vec<_> = volume.index().entries.iter().map(|entry| entry.blob).collect();
    let Ok(bundle) = Set::of(vec![volume]).and_then(Bundle::of) else { return };
    let _ = bundle.completeness();
    let _ = bundle.manifest();
    for digest in digests {
        if let Ok(Some(size)) = bundle.size(&digest) {
            let reader = bundle.open(&digest, 0..size).expect("a blob with a size opens");
            std::io::copy(&mut { reader }, &mut std::io::sink()).expect("and has its bytes");
        }
    }
});
