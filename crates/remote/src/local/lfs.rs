//! Decides which files of a plain folder the Hub would store in LFS. The depot needs to know it:
//! the `ETag` of an LFS file is its sha256, that of another file is its git id.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Longest file outside of LFS, in bytes; the Hub rejects longer ones (docs, "Repository
/// limitations").
const MAX_REGULAR: u64 = 10_000_000;
/// The patterns in the `.gitattributes` that the Hub writes into every new model repository
/// (huggingface.co, 2024 to 2026).
const DEFAULT: &[&str] = &[
    "*.7z",
    "*.arrow",
    "*.bin",
    "*.bz2",
    "*.ckpt",
    "*.ftz",
    "*.gz",
    "*.h5",
    "*.joblib",
    "*.lfs.*",
    "*.mlmodel",
    "*.model",
    "*.msgpack",
    "*.npy",
    "*.npz",
    "*.onnx",
    "*.ot",
    "*.parquet",
    "*.pb",
    "*.pickle",
    "*.pkl",
    "*.pt",
    "*.pth",
    "*.rar",
    "*.safetensors",
    "saved_model/**/*",
    "*.tar.*",
    "*.tar",
    "*.tflite",
    "*.tgz",
    "*.wasm",
    "*.xz",
    "*.zip",
    "*.zst",
    "*tfevents*",
];

/// The LFS patterns of one folder.
pub(super) struct LfsRules {
    globs: GlobSet,
}

impl LfsRules {
    /// Compiles the patterns of the folder's own `.gitattributes`, or of the Hub's default without
    /// one.
    pub(super) fn new(attributes: Option<&str>) -> Self {
        let patterns: Vec<&str> = match attributes {
            Some(text) => text.lines().filter_map(parse_lfs_pattern).collect(),
            None => DEFAULT.to_vec(),
        };
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            // gitattributes(5): a pattern without a slash matches the name in any folder.
            let anywhere = format!("**/{pattern}");
            let pattern = if pattern.contains('/') {
                pattern.trim_start_matches('/')
            } else {
                anywhere.as_str()
            };
            // A pattern that cannot be read is left out: at worst a small file is stored without
            // LFS.
            if let Ok(glob) = GlobBuilder::new(pattern).literal_separator(true).build() {
                set.add(glob);
            }
        }
        Self { globs: set.build().unwrap_or_default() }
    }

    /// Whether the Hub would store the file in LFS.
    pub(super) fn is_lfs(&self, path: &str, size: u64) -> bool {
        size > MAX_REGULAR || self.globs.is_match(path)
    }
}

/// The pattern of an LFS line such as `*.bin filter=lfs diff=lfs merge=lfs -text`.
fn parse_lfs_pattern(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let pattern = words.next().filter(|word| !word.starts_with('#'))?;
    words.any(|word| word == "filter=lfs").then_some(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_in_lfs_and_configs_are_not() {
        let rules = LfsRules::new(None);
        for (path, size, lfs) in [
            ("model.safetensors", 10, true),
            ("onnx/model.onnx", 10, true),
            ("config.json", 10, false),
            ("tokenizer.json", 17_000_000, true),
            ("saved_model/a/b.txt", 1, true),
        ] {
            assert_eq!(rules.is_lfs(path, size), lfs, "{path}");
        }
    }

    #[test]
    fn a_folder_s_own_attributes_win() {
        let rules =
            LfsRules::new(Some("*.json filter=lfs diff=lfs merge=lfs -text\n*.bin -text\n"));
        assert!(rules.is_lfs("a/tokenizer.json", 1));
        assert!(!rules.is_lfs("a.bin", 1));
    }
}
