//! Opens any bytes as a bundle file, then as a bundle, and reads every blob that its index lists.
//! Seeds: docs/formats/vectors/bundle.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use bundle::{Bundle, BundleFile, BundleFileSet, ReadAt};
use libfuzzer_sys::fuzz_target;
use store::Source;

fuzz_target!(|bytes: Vec<u8>| {
    let data: Arc<dyn ReadAt> = Arc::new(bytes);
    let Ok(file) = BundleFile::from_data(Path::new("bundle file"), &data) else { return };
    let digests: Vec<_> = file.index().entries.iter().map(|entry| entry.blob).collect();
    let Ok(bundle) = BundleFileSet::from_files(vec![file]).and_then(Bundle::from_file_set) else { return };
    let _ = bundle.check_completeness();
    let _ = bundle.read_manifest();
    for digest in digests {
        if let Ok(Some(size)) = bundle.blob_size(&digest) {
            let reader = bundle.open_blob(&digest, 0..size).expect("a blob with a size opens");
            std::io::copy(&mut { reader }, &mut std::io::sink()).expect("and has its bytes");
        }
    }
});
