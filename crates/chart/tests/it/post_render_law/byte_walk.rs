//! Compares a stream with what the post-renderer made of it, byte by byte and without reading any
//! YAML: all that may differ is that the name of an image has the site's registry in front.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::references::SITE;

/// Says where the streams differ in more than names of images; `None` if they do not. Only for the
/// naming host-path, by which a name at the site shows the whole name that it was made of.
pub(crate) fn find_other_difference(before: &str, after: &str) -> Option<String> {
    let prefix = format!("{SITE}/");
    let (mut old, mut new) = (before, after);
    loop {
        if old.is_empty() && new.is_empty() {
            return None;
        }
        if new.starts_with(&prefix)
            && !old.starts_with(&prefix)
            && let Some((old_rest, new_rest)) = skip_moved_name(old, &new[prefix.len()..])
        {
            (old, new) = (old_rest, new_rest);
            continue;
        }
        if let Some((old_rest, new_rest)) = skip_encoded(old, new) {
            (old, new) = (old_rest, new_rest);
            continue;
        }
        let (mut old_letters, mut new_letters) = (old.chars(), new.chars());
        if old_letters.next() != new_letters.next() {
            let shown = |text: &str| text.chars().take(80).collect::<String>();
            return Some(format!("{:?} became {:?}", shown(old), shown(new)));
        }
        (old, new) = (old_letters.as_str(), new_letters.as_str());
    }
}

/// What follows a name, in the text before and behind the site's prefix in the one after; `None` if
/// they are not the same name.
fn skip_moved_name<'t>(old: &'t str, new: &'t str) -> Option<(&'t str, &'t str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "./-_:".contains(c);
    let length = old.find(|c| !is_part(c)).unwrap_or(old.len());
    let name = &old[..length];
    let hub = ["index.docker.io/", "registry-1.docker.io/", "docker.io/"];
    let path = hub.iter().find_map(|host| name.strip_prefix(host)).unwrap_or(name);
    // The host with its port, as a folder; Docker Hub's is not always written.
    let with_folder = match name.split_once('/') {
        Some((host, rest)) => format!("{}/{rest}", host.replace(':', "-")),
        None => name.replace(':', "-"),
    };
    let mut candidates = vec![
        // A field with the registry alone ends where the whole name goes on in another.
        format!("{}/library", with_folder.trim_end_matches('/')),
        format!("docker.io/library/{path}"),
        format!("docker.io/{path}"),
        with_folder,
    ];
    if hub.iter().any(|host| host.trim_end_matches('/') == name) {
        candidates.extend(["docker.io/library".to_owned(), "docker.io".to_owned()]);
    }
    let old = &old[length..];
    // What follows is the same in both.
    let follows = |new: &&str| new.chars().next() == old.chars().next();
    candidates
        .iter()
        .find_map(|candidate| new.strip_prefix(candidate.as_str()).filter(follows))
        .map(|new| (old, new))
}

/// What follows a base64 text that encodes two texts of which one became the other. The text before
/// may be on several lines; the one after is on one.
fn skip_encoded<'t>(old: &'t str, new: &'t str) -> Option<(&'t str, &'t str)> {
    const LINES: usize = 4;
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let word_length = |text: &str| text.find(|c| !is_letter(c)).unwrap_or(text.len());
    let decode = |text: &str| {
        let compact: String = text.split_whitespace().collect();
        String::from_utf8(STANDARD.decode(compact).ok()?).ok()
    };
    let other = word_length(new);
    let length = word_length(old);
    if other < 12 || old[..length] == new[..other] {
        return None;
    }
    let after = decode(&new[..other])?;
    let mut end = 0;
    for _ in 0..LINES {
        let blanks = old[end..].len() - old[end..].trim_start().len();
        end += if end == 0 { 0 } else { blanks };
        end += word_length(&old[end..]);
        let before = decode(&old[..end]);
        if before.is_some_and(|before| find_other_difference(&before, &after).is_none()) {
            return Some((&old[end..], &new[other..]));
        }
    }
    None
}
