//! Selects the files of a model by include and exclude globs. They mean what they mean in
//! huggingface_hub (`filter_repo_objects`), which uses Python's `fnmatch`: `*` also matches `/`.
//! The globs are translated to the syntax of the `globset` crate.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::{Error, Result};

/// Include and exclude globs.
#[derive(Debug, Clone)]
pub struct ModelFileFilter {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl ModelFileFilter {
    /// Compiles the globs of an input; without an include glob all files are included.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        Ok(Self {
            include: if include.is_empty() { None } else { Some(build_glob_set(include)?) },
            exclude: build_glob_set(exclude)?,
        })
    }

    /// A filter that accepts every file.
    pub fn accept_all() -> Self {
        Self { include: None, exclude: GlobSet::empty() }
    }

    /// Whether the file with this path is carried. An exclude glob wins over an include glob.
    pub fn accepts(&self, path: &str) -> bool {
        self.include.as_ref().is_none_or(|globs| globs.is_match(path))
            && !self.exclude.is_match(path)
    }
}

fn build_glob_set(globs: &[String]) -> Result<GlobSet> {
    let bad = |glob: &str, reason: String| {
        Error::invalid_document(format!("the pattern {glob:?}"), reason)
    };
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        // huggingface_hub adds the star as well: `onnx/` means everything below that folder.
        let whole = if glob.ends_with('/') { format!("{glob}*") } else { glob.clone() };
        let built = GlobBuilder::new(&translate_glob(&whole))
            // As in fnmatch `*` matches `/`, and a backslash is a plain character.
            .literal_separator(false)
            .backslash_escape(false)
            .build()
            .map_err(|error| bad(glob, error.kind().to_string()))?;
        set.add(built);
    }
    set.build().map_err(|error| bad(&globs.join(", "), error.kind().to_string()))
}

/// Translates an `fnmatch` pattern to globset's syntax, where they differ:
///
/// | fnmatch | meaning | globset |
/// |---|---|---|
/// | `a**b` | the same as `a*b` | `a*b` |
/// | `{a}` | braces are plain characters | `[{]a[}]` |
/// | `[^ab]` | one of `^`, `a`, `b` | `[ab^]` |
/// | `[ab` | an unclosed bracket is a plain character | `[[]ab` |
fn translate_glob(glob: &str) -> String {
    let signs: Vec<char> = glob.chars().collect();
    let mut out = String::with_capacity(glob.len());
    let mut at = 0;
    while at < signs.len() {
        match signs[at] {
            '*' if out.ends_with('*') => {}
            sign @ ('{' | '}') => out.extend(['[', sign, ']']),
            '[' => match find_class_end(&signs, at) {
                Some(end) => {
                    write_class(&signs[at + 1..end], &mut out);
                    at = end;
                }
                None => out.push_str("[[]"),
            },
            sign => out.push(sign),
        }
        at += 1;
    }
    out
}

/// The index of the `]` that closes the character class at `at`. A `]` directly after `[` or `[!`
/// is a plain character of the class.
fn find_class_end(signs: &[char], at: usize) -> Option<usize> {
    let mut from = at + 1;
    if signs.get(from) == Some(&'!') {
        from += 1;
    }
    if signs.get(from) == Some(&']') {
        from += 1;
    }
    (from..signs.len()).find(|index| signs[*index] == ']')
}

/// Writes a character class; `inner` is what stands between its brackets.
fn write_class(inner: &[char], out: &mut String) {
    out.push('[');
    match inner {
        // globset reads `[^` as a negation; at the end of a class `^` is a plain character.
        ['^'] => out.push_str("^^"),
        ['^', rest @ ..] => {
            out.extend(rest);
            out.push('^');
        }
        inner => out.extend(inner),
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn globs_mean_what_they_mean_in_huggingface_hub() {
        // Each row was checked with Python's fnmatch.fnmatchcase, and a trailing slash with
        // huggingface_hub.utils.filter_repo_objects (2.4.0).
        for (glob, path, expected) in [
            ("*.json", "config.json", true),
            ("*.json", "onnx/config.json", true),
            ("onnx/*", "onnx/a/b.onnx", true),
            ("onnx/", "onnx/model.onnx", true),
            ("**/x", "x", false),
            ("**/x", "a/b/x", true),
            ("config.json", "onnx/config.json", false),
            ("a?c", "a/c", true),
            ("{a}.txt", "{a}.txt", true),
            ("{a,b}.txt", "a.txt", false),
            ("[!a]b", "ab", false),
            ("[!a]b", "cb", true),
            ("[^a]b", "^b", true),
            ("[^a]b", "cb", false),
            ("[a", "[a", true),
            ("x[]]y", "x]y", true),
            ("*.JSON", "config.json", false),
        ] {
            let filter = ModelFileFilter::new(&[glob.to_owned()], &[]).unwrap();
            assert_eq!(filter.accepts(path), expected, "{glob} {path}");
        }
    }

    #[test]
    fn what_is_excluded_wins() {
        let filter = ModelFileFilter::new(&["*.json".into()], &["onnx/*".into()]).unwrap();
        assert!(filter.accepts("config.json"));
        assert!(!filter.accepts("onnx/config.json"));
        assert!(!filter.accepts("model.bin"));
        assert!(ModelFileFilter::accept_all().accepts("anything"));
    }

    proptest::proptest! {
        #[test]
        fn a_glob_without_signs_takes_itself_alone(path in "[a-zA-Z0-9_./{}^!,-]{1,30}") {
            proptest::prop_assume!(!path.ends_with('/'));
            let filter = ModelFileFilter::new(std::slice::from_ref(&path), &[]).unwrap();
            proptest::prop_assert!(filter.accepts(&path));
            let longer = format!("{path}x");
            proptest::prop_assert!(!filter.accepts(&longer));
        }

        #[test]
        fn any_text_is_a_glob_or_an_error(text in "[]\\[a-c!^*?/{}-]{0,20}") {
            let _ = ModelFileFilter::new(&[text], &[]).map(|filter| filter.accepts("a/b"));
        }
    }
}
