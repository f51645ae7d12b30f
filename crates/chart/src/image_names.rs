//! The name of an image: where it ends in a reference, and where it stands in a longer text. Names
//! are compared as text, since a manifest may have only a part of a reference in a field.

/// The length of the name in a reference, up to its tag or digest. A colon before the last slash
/// belongs to a port.
pub(crate) fn name_length(reference: &str) -> usize {
    let end = reference.find('@').unwrap_or(reference.len());
    match reference[..end].rfind(':') {
        Some(colon) if !reference[colon..end].contains('/') => colon,
        _ => end,
    }
}

/// The name in a reference without tag and digest, if it starts with a registry's host. `nginx`
/// does not: as a plain word, it may mean anything.
pub(crate) fn hosted_name(text: &str) -> Option<&str> {
    let name = &text[..name_length(text)];
    let (host, _) = name.split_once('/')?;
    host.contains(['.', ':']).then_some(name)
}

/// Whether a text has an image's name as a whole: not as a part of a longer name, and not in a URL.
pub(crate) fn mentions_name(text: &str, name: &str) -> bool {
    find_mentions(text, name).next().is_some()
}

/// The text with another name wherever it has this one as a whole.
pub(crate) fn replace_name(text: &str, name: &str, new: &str) -> String {
    let mut replaced = String::new();
    let mut end = 0;
    for start in find_mentions(text, name) {
        replaced.push_str(&text[end..start]);
        replaced.push_str(new);
        end = start + name.len();
    }
    replaced + &text[end..]
}

/// Where a text has an image's name as a whole.
fn find_mentions<'t>(text: &'t str, name: &'t str) -> impl Iterator<Item = usize> + 't {
    text.match_indices(name).map(|(start, _)| start).filter(move |start| {
        let start = *start;
        let behind = text[start + name.len()..].chars().next();
        is_name_start(text, start)
            && !behind.is_some_and(|c| c.is_ascii_alphanumeric() || "-_/".contains(c))
    })
}

/// Whether a text may have the name of an image of this host (`ghcr.io/`) as a whole. In the site's
/// name of such an image (`site/ghcr.io/org/app`) the host is a part of a longer one.
pub(crate) fn may_mention_host(text: &str, host: &str) -> bool {
    text.match_indices(host).any(|(start, _)| is_name_start(text, start))
}

/// Whether what begins here is not the rest of a longer name, or of a URL.
fn is_name_start(text: &str, start: usize) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "./-_".contains(c);
    !text[..start].chars().next_back().is_some_and(is_part)
}

/// Whether a text is a whole reference, or whole segments of its name: `org/app` is a part of
/// `ghcr.io/org/app:1`, and `rg/a` is not.
pub(crate) fn is_part_of_reference(text: &str, reference: &str) -> bool {
    // Shorter texts are part of too many names by chance.
    const SHORTEST: usize = 3;
    if text == reference {
        return true;
    }
    let name = &reference[..name_length(reference)];
    text.len() >= SHORTEST
        && name.match_indices(text).any(|(start, _)| {
            let before = start.checked_sub(1).map(|index| name.as_bytes()[index]);
            let behind = name.as_bytes().get(start + text.len());
            before.is_none_or(|b| b"/-.".contains(&b)) && behind.is_none_or(|b| b"/-:".contains(b))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_where_tag_or_digest_begin() {
        for (text, name) in [
            ("a/b:1", "a/b"),
            ("h:5000/a", "h:5000/a"),
            ("h:5000/a:1@sha256:00", "h:5000/a"),
            ("a@sha256:00", "a"),
            ("nginx", "nginx"),
        ] {
            assert_eq!(&text[..name_length(text)], name);
        }
    }

    #[test]
    fn a_value_is_part_of_a_reference_only_as_whole_segments() {
        assert!(is_part_of_reference("org", "docker.io/org/app:1"));
        assert!(is_part_of_reference("org/app", "docker.io/org/app:1"));
        assert!(!is_part_of_reference("rg/a", "docker.io/org/app:1"));
        assert!(!is_part_of_reference("1.0", "docker.io/org/app:1.0"));
    }
}
