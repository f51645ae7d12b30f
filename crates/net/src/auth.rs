//! The challenges of a 401 response (`WWW-Authenticate`), by which registries say how to authenticate.

use std::collections::HashMap;

/// A challenge of a `WWW-Authenticate` header (RFC 9110, 11.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthChallenge {
    /// `bearer`, `basic`, in lower case.
    pub scheme: String,
    /// The parameters, names in lower case.
    pub parameters: HashMap<String, String>,
}

impl AuthChallenge {
    /// All challenges of one header value. One header may have several, and quoted values may contain
    /// commas.
    pub fn parse(text: &str) -> Vec<Self> {
        let mut challenges: Vec<Self> = Vec::new();
        for item in split_at_commas(text) {
            let item = item.trim();
            let (head, value) = match item.split_once('=') {
                Some((head, value)) => (head.trim(), Some(value.trim())),
                None => (item, None),
            };
            // `Bearer realm` starts a challenge; `service` goes on with the last one.
            let (scheme, name) = match head.rsplit_once(char::is_whitespace) {
                Some((scheme, name)) => (Some(scheme.trim()), name),
                None if value.is_none() => (Some(head), ""),
                None => (None, head),
            };
            if let Some(scheme) = scheme.filter(|scheme| !scheme.is_empty()) {
                let scheme = scheme.to_ascii_lowercase();
                challenges.push(Self { scheme, parameters: HashMap::new() });
            }
            if let (Some(challenge), Some(value)) = (challenges.last_mut(), value) {
                let value = unquote_value(value);
                challenge.parameters.insert(name.to_ascii_lowercase(), value);
            }
        }
        challenges
    }
}

/// A token, or a quoted string without its quotes and escapes (RFC 9110, 5.6.4).
fn unquote_value(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut characters = inner.chars();
    let mut plain = String::with_capacity(inner.len());
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            other => plain.push(other),
        }
    }
    plain
}

/// Splits at commas outside of quotes.
fn split_at_commas(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_challenges_with_quoted_commas_are_told_apart() {
        let text = r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push", Basic realm="x""#;
        let challenges = AuthChallenge::parse(text);
        assert_eq!(challenges.len(), 2);
        assert_eq!(challenges[0].scheme, "bearer");
        assert_eq!(challenges[0].parameters["scope"], "repository:a/b:pull,push");
        assert_eq!(challenges[1].scheme, "basic");
        assert_eq!(challenges[1].parameters["realm"], "x");
        assert_eq!(AuthChallenge::parse("Negotiate")[0].scheme, "negotiate");
    }
}
