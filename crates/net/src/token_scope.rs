//! The scopes of tokens (distribution's "Token Scope Documentation"): `repository:a/b:pull,push`, several
//! of them separated by spaces.

use std::collections::BTreeSet;

/// One resource with the actions on it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ScopeItem<'a> {
    /// `repository:library/nginx`: type and name, which may contain colons (a port).
    resource: &'a str,
    actions: BTreeSet<&'a str>,
}

impl<'a> ScopeItem<'a> {
    fn parse_all(text: &'a str) -> Vec<Self> {
        let items = text.split(' ').filter(|item| !item.is_empty());
        items
            .map(|item| {
                let (resource, actions) = item.rsplit_once(':').unwrap_or((item, ""));
                let actions = actions.split(',').filter(|action| !action.is_empty()).collect();
                Self { resource, actions }
            })
            .collect()
    }
}

/// The scope to ask a token for: that of the challenge, with all actions that the request needs.
///
/// A registry knows best under which name it has a repository: behind a proxy or as a project's cache it
/// may be another than that in the request's path. But it may challenge with less than is needed, such
/// as pull alone for an upload.
pub(crate) fn merge_scopes(needed: &str, challenged: &str) -> String {
    let mut merged = ScopeItem::parse_all(challenged);
    let needed = ScopeItem::parse_all(needed);
    let is_known = |item: &ScopeItem<'_>, merged: &[ScopeItem<'_>]| {
        merged.iter().any(|known| known.resource == item.resource)
    };
    if merged.is_empty() || needed.iter().any(|item| is_known(item, &merged)) {
        // The same names: both together.
        for item in needed {
            match merged.iter_mut().find(|known| known.resource == item.resource) {
                Some(known) => known.actions.extend(item.actions),
                None => merged.push(item),
            }
        }
    } else if let Some(main) = needed.first() {
        // Other names for what is needed.
        for item in merged.iter_mut().filter(|item| item.resource.starts_with("repository:")) {
            item.actions.extend(main.actions.iter().copied());
        }
    }
    let format = |item: &ScopeItem<'_>| {
        let actions: Vec<&str> = item.actions.iter().copied().collect();
        format!("{}:{}", item.resource, actions.join(","))
    };
    merged.iter().map(format).collect::<Vec<_>>().join(" ")
}

/// The repository that a scope is for, the first of several.
pub(crate) fn find_repository(scope: &str) -> Option<&str> {
    let items = ScopeItem::parse_all(scope);
    items.iter().find_map(|item| item.resource.strip_prefix("repository:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_names_the_resource_and_the_request_its_actions() {
        for (needed, challenged, expected) in [
            ("repository:a/b:pull", "", "repository:a/b:pull"),
            ("", "registry:catalog:*", "registry:catalog:*"),
            ("repository:a/b:pull,push", "repository:a/b:pull", "repository:a/b:pull,push"),
            ("repository:a:pull", "repository:project/a:pull", "repository:project/a:pull"),
            ("repository:a:pull,push", "repository:p/a:pull", "repository:p/a:pull,push"),
            (
                "repository:a:pull,push repository:b:pull",
                "repository:a:pull,push",
                "repository:a:pull,push repository:b:pull",
            ),
        ] {
            assert_eq!(merge_scopes(needed, challenged), expected, "{needed} {challenged}");
        }
        assert_eq!(find_repository("repository:h:5000/a:pull repository:b:pull"), Some("h:5000/a"));
        assert_eq!(find_repository("registry:catalog:*"), None);
    }
}
