//! What a key says about its value: an image, or a part of one. Keys are split into words, so that
//! `baseImage`, `base_image`, `BASE_IMAGE` and `base-image` are the same name.

/// Splits a key into its words, in lower case: `defaultImageVersion` is default, image, version.
pub(crate) fn split_words(key: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut was_lower = false;
    for letter in key.chars() {
        // A capital after a small letter starts a word, so the capitals of `imageURL` are one word.
        let starts_word = letter.is_ascii_uppercase() && was_lower;
        if (!letter.is_ascii_alphanumeric() || starts_word) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if letter.is_ascii_alphanumeric() {
            word.push(letter.to_ascii_lowercase());
        }
        was_lower = letter.is_ascii_lowercase() || letter.is_ascii_digit();
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Whether a text contains `word`, which is in lower case, in any mix of cases.
fn contains_word(text: &str, word: &str) -> bool {
    let (text, word) = (text.as_bytes(), word.as_bytes());
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

/// Whether a text may have a key in it that names an image or a part of one. A cheap test that
/// saves parsing most texts; it may be wrong in one direction only.
pub(crate) fn may_name_images(text: &str) -> bool {
    let bytes = text.as_bytes();
    let starts = |at: usize, word: &str| {
        bytes.get(at..at + word.len()).is_some_and(|own| own.eq_ignore_ascii_case(word.as_bytes()))
    };
    // `hub` must be a word of its own: as in `imageHub`, not as in `github`.
    let is_hub = |at: usize| {
        let before = at.checked_sub(1).map(|before| bytes[before]);
        let is_start = bytes[at].is_ascii_uppercase()
            || !before.is_some_and(|before| before.is_ascii_alphanumeric());
        starts(at, "hub") && is_start && !bytes.get(at + 3).is_some_and(u8::is_ascii_alphanumeric)
    };
    (0..bytes.len()).any(|at| match bytes[at] {
        b'i' | b'I' => starts(at, "image") || starts(at, "img"),
        b'r' | b'R' => starts(at, "repo") || starts(at, "registry"),
        b'h' | b'H' => is_hub(at),
        _ => false,
    })
}

/// Whether a key names a whole image: `image`, `baseImage`, `imageName`, `RELATED_IMAGE_X`.
pub(crate) fn is_image_key(key: &str) -> bool {
    // A cheap test first: most keys contain neither, and need not be split.
    if !contains_word(key, "image") && !contains_word(key, "img") {
        return false;
    }
    // In keys of annotations and labels only the last segment is the name.
    let key = key.rsplit('/').next().unwrap_or(key);
    let words = split_words(key);
    let at = |back: usize| words.len().checked_sub(back).map(|index| words[index].as_str());
    let ends_so = matches!(at(1), Some("image" | "img" | "images" | "containerimage"));
    let last = matches!(at(1), Some("name" | "ref" | "reference" | "uri" | "url" | "path"));
    let names_it = last && matches!(at(2), Some("image" | "img"));
    ends_so || names_it || words.starts_with(&["related".to_owned(), "image".to_owned()])
}

/// Whether a key that names images names several: `images`, `runtimeImages`, `SIDECAR_IMAGES`.
pub(crate) fn is_plural_image_key(key: &str) -> bool {
    split_words(key).last().is_some_and(|word| word == "images")
}

/// Whether a key holds documentation that no program reads: Knative's ConfigMaps have an `_example`,
/// others a `config.yaml.example` or a `README.md`.
pub(crate) fn is_example_key(key: &str) -> bool {
    const ENDINGS: &[&str] = &[".example", ".sample", ".md"];
    const PARTS: &[&str] = &[".example.", ".sample."];
    // In `app.example.org/image` the domain is no example.
    let key = key.rsplit('/').next().unwrap_or(key);
    key.starts_with('_')
        || ENDINGS.iter().any(|ending| key.ends_with(ending))
        || PARTS.iter().any(|part| key.contains(part))
}

/// Which part of an image reference the value of a key is, as the key's last words say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyMeaning {
    Registry,
    Repository,
    Image,
    Tag,
    Digest,
}

/// The last words of keys and what they mean. Longer endings come before their own endings, since
/// the first match counts.
const ENDINGS: &[(&[&str], KeyMeaning)] = &[
    (&["image", "registry"], KeyMeaning::Registry),
    (&["image", "repository"], KeyMeaning::Repository),
    (&["image", "repo"], KeyMeaning::Repository),
    (&["default", "image", "version"], KeyMeaning::Tag),
    (&["image", "version"], KeyMeaning::Tag),
    (&["image", "tag"], KeyMeaning::Tag),
    (&["image", "digest"], KeyMeaning::Digest),
    (&["image", "name"], KeyMeaning::Image),
    (&["container", "image"], KeyMeaning::Image),
    (&["registry"], KeyMeaning::Registry),
    (&["hub"], KeyMeaning::Registry),
    (&["repository"], KeyMeaning::Repository),
    (&["repo"], KeyMeaning::Repository),
    (&["image"], KeyMeaning::Image),
    (&["tag"], KeyMeaning::Tag),
    (&["version"], KeyMeaning::Tag),
    (&["digest"], KeyMeaning::Digest),
    (&["sha256"], KeyMeaning::Digest),
    (&["sha"], KeyMeaning::Digest),
];

/// Classifies a key by its ending and returns its stem, the words before the ending, which it
/// shares with its siblings: `worker_container_repository` is the repository of `[worker,
/// container]`. `None` for keys that name no part of an image.
pub(crate) fn classify_key(key: &str) -> Option<(Vec<String>, KeyMeaning)> {
    let ends_so = |ending: &(&[&str], KeyMeaning)| {
        let last = ending.0.last().map_or(&b""[..], |word| word.as_bytes());
        let start = key.len().checked_sub(last.len());
        start.is_some_and(|start| key.as_bytes()[start..].eq_ignore_ascii_case(last))
    };
    // A cheap test first: most keys end in another word, and need not be split.
    if !ENDINGS.iter().any(ends_so) {
        return None;
    }
    let words = split_words(key);
    ENDINGS.iter().find_map(|(ending, piece)| {
        let is_end = words.len() >= ending.len()
            && words[words.len() - ending.len()..].iter().zip(*ending).all(|(a, b)| a == b);
        is_end.then(|| (words[..words.len() - ending.len()].to_vec(), *piece))
    })
}

/// Whether a key names a registry: `registry`, `imageRegistry`, `hub`.
pub(crate) fn is_registry_key(key: &str) -> bool {
    matches!(classify_key(key), Some((_, KeyMeaning::Registry)))
        && split_words(key).iter().any(|word| word == "registry" || word == "hub")
}

/// Whether a key is that of a pull secret or a list of them: `imagePullSecrets`, `pullSecretName`.
pub(crate) fn is_pull_secret_key(key: &str) -> bool {
    const ENDINGS: &[&[&str]] =
        &[&["pull", "secrets"], &["pull", "secret"], &["pull", "secret", "name"]];
    let words = split_words(key);
    let ends = |ending: &&[&str]| {
        words.len() >= ending.len() && words[words.len() - ending.len()..].iter().eq(ending.iter())
    };
    ENDINGS.iter().any(ends)
}

/// Whether a key names an image or a repository, and not only a registry or a version.
pub(crate) fn is_name_key(key: &str) -> bool {
    match classify_key(key) {
        Some((_, meaning)) => matches!(meaning, KeyMeaning::Repository | KeyMeaning::Image),
        None => is_image_key(key) && !is_plural_image_key(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_cut_into_words_however_it_is_spelled() {
        for key in ["defaultImageVersion", "default_image_version", "DEFAULT-IMAGE-VERSION"] {
            assert_eq!(split_words(key), ["default", "image", "version"]);
        }
        assert_eq!(split_words("imageURL"), ["image", "url"]);
    }

    #[test]
    fn a_key_of_examples_says_so_behind_its_domain() {
        for key in ["_example", "config.yaml.example", "x.sample.toml", "README.md"] {
            assert!(is_example_key(key), "{key}");
        }
        assert!(!is_example_key("app.example.org/image"));
    }

    #[test]
    fn a_key_names_an_image_or_it_does_not() {
        for key in [
            "image",
            "baseImage",
            "SANDBOX_CONTAINER_IMAGE",
            "imageName",
            "RELATED_IMAGE_x",
            "sidecar.istio.io/proxyImage",
        ] {
            assert!(is_image_key(key), "{key}");
        }
        for key in ["imagePullPolicy", "imagePullSecrets", "imageTag", "tag", "imagePrepull"] {
            assert!(!is_image_key(key), "{key}");
        }
    }
}
