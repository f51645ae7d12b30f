//! One configuration file with credentials, as docker, podman and skopeo write it: which of its entries is
//! for a server, whatever the program was that wrote the key.
//!
//! Keys are `docker.io`, `index.docker.io`, `https://index.docker.io/v1/` (docker's own for Docker Hub),
//! `host`, `host:port`, `https://host/v2/`, and `host/path` (containers-auth.json(5)). The library
//! docker_credential decodes the entry that was found and runs helpers.

use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde_json::{Map, Value, json};
use types::Cause;

use crate::{Credential, Error, Result};

/// Docker Hub's key in docker's configuration.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The names of Docker Hub's hosts in keys.
const DOCKER_HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

impl Credential {
    /// The credential for a server in a configuration in docker's format, such as `.dockerconfigjson` of
    /// a pull secret; `None` when it has none for the server. Credential helpers are not run: content
    /// from a cluster must not start programs on this machine.
    pub fn from_docker_config(content: &[u8], server: &str) -> Result<Option<Self>> {
        find_in_config(content, server, HelperPolicy::Ignore)
            .map_err(|cause| Error::Credentials { server: server.to_owned(), cause })
    }
}

/// Whether the credential helpers that a file names are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HelperPolicy {
    Run,
    Ignore,
}

/// A registry, or a part of it, that a key or a request names.
#[derive(Debug, PartialEq, Eq)]
struct CredentialPlace<'a> {
    host: &'a str,
    path: Vec<&'a str>,
}

impl<'a> CredentialPlace<'a> {
    fn parse(text: &'a str) -> Self {
        let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let mut parts = bare.unwrap_or(text).split('/').filter(|part| !part.is_empty());
        let host = parts.next().unwrap_or_default();
        let host = host.strip_suffix(":443").unwrap_or(host);
        let host = if DOCKER_HUB_HOSTS.contains(&host) { "docker.io" } else { host };
        let mut path: Vec<&str> = parts.collect();
        // The version of the API, which is no part of a repository's name.
        if bare.is_some() && path.first().is_some_and(|first| matches!(*first, "v1" | "v2")) {
            path.remove(0);
        }
        Self { host, path }
    }

    fn contains(&self, other: &Self) -> bool {
        self.host == other.host && other.path.starts_with(&self.path)
    }

    /// The names under which helpers may have it.
    fn helper_keys(&self) -> Vec<&str> {
        if self.host == "docker.io" {
            vec![DOCKER_HUB_KEY, "docker.io", "index.docker.io"]
        } else {
            vec![self.host]
        }
    }
}

/// Whether a key is for a server or repository.
pub(crate) fn is_key_for(key: &str, server: &str) -> bool {
    CredentialPlace::parse(key).contains(&CredentialPlace::parse(server))
}

/// The credential that the content of a file has for a server or repository. A helper for the server comes
/// first, then the entry with the longest path, then the default helper, as in docker.
pub(crate) fn find_in_config(
    content: &[u8],
    server: &str,
    helpers: HelperPolicy,
) -> Result<Option<Credential>, Cause> {
    let config: Value = serde_json::from_slice(content)
        .map_err(|cause| Cause::about("it is not valid JSON in docker's format", cause))?;
    let place = CredentialPlace::parse(server);
    let text_of = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    if helpers == HelperPolicy::Run {
        let own = list_entries(&config, "credHelpers", &place).into_iter().find_map(text_of);
        if let Some(helper) = own
            && let Some(found) = run_helper(&helper, &place)?
        {
            return Ok(Some(found));
        }
    }
    for entry in list_entries(&config, "auths", &place) {
        if let Some(found) = decode_entry(entry)? {
            return Ok(Some(found));
        }
    }
    match config.get("credsStore").and_then(text_of) {
        Some(helper) if helpers == HelperPolicy::Run => run_helper(&helper, &place),
        _ => Ok(None),
    }
}

/// The entries of a map of the configuration that are for a place, those with the longest path first.
fn list_entries<'a>(config: &'a Value, map: &str, place: &CredentialPlace<'_>) -> Vec<&'a Value> {
    let entries = config.get(map).and_then(Value::as_object);
    let mut found: Vec<(usize, &Value)> = entries
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| {
            let at = CredentialPlace::parse(key);
            at.contains(place).then_some((at.path.len(), value))
        })
        .collect();
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, value)| value).collect()
}

/// The credential of an entry of `auths`; `None` when it has none: docker leaves `{}` behind for what a
/// helper keeps, and other programs an empty `auth`.
fn decode_entry(entry: &Value) -> Result<Option<Credential>, Cause> {
    let Some(entry) = entry.as_object() else { return Ok(None) };
    let known = ["auth", "username", "password", "identitytoken"];
    let filled: Map<String, Value> = entry
        .iter()
        .filter(|(key, value)| {
            known.contains(&key.as_str())
                && value.as_str().is_some_and(|text| !text.trim().is_empty())
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if filled.is_empty() {
        return Ok(None);
    }
    let config = json!({ "auths": { "server": filled } }).to_string();
    let found = docker_credential::get_credential_from_reader(config.as_bytes(), "server");
    convert_credential(found).map_err(|cause| explain_failure(cause, None))
}

/// What a helper has for a place.
fn run_helper(helper: &str, place: &CredentialPlace<'_>) -> Result<Option<Credential>, Cause> {
    let config = json!({ "credsStore": helper }).to_string();
    for key in place.helper_keys() {
        let found = docker_credential::get_credential_from_reader(config.as_bytes(), key);
        let name = format!("docker-credential-{helper}");
        let found =
            convert_credential(found).map_err(|cause| explain_failure(cause, Some(&name)))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn convert_credential(
    result: Result<DockerCredential, CredentialRetrievalError>,
) -> Result<Option<Credential>, CredentialRetrievalError> {
    match result {
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Credential::IdentityToken(token))),
        // Credential helpers return an identity token under this user name (docker's documentation,
        // `docker login`, "Credential helper protocol").
        Ok(DockerCredential::UsernamePassword(user, token)) if user == "<token>" => {
            Ok(Some(Credential::IdentityToken(token)))
        }
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            let is_empty = user.is_empty() && password.is_empty();
            Ok((!is_empty).then_some(Credential::Password { user, password }))
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // Helpers print "credentials not found" when they have none for the server; not a failure.
        Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
            if stdout.contains("not found") || stderr.contains("not found") =>
        {
            Ok(None)
        }
        Err(cause) => Err(cause),
    }
}

/// The library's reason in plain words, with the name of the helper, which the library leaves out.
fn explain_failure(cause: CredentialRetrievalError, helper: Option<&str>) -> Cause {
    let text = match (&cause, helper) {
        (CredentialRetrievalError::HelperCommunicationError, Some(helper)) => {
            format!("the credential helper {helper} could not be run (is it in PATH?)")
        }
        (CredentialRetrievalError::MalformedHelperResponse, Some(helper)) => {
            format!("the credential helper {helper} returned no credential")
        }
        (CredentialRetrievalError::HelperFailure { helper, stdout, stderr }, _) => {
            let said = if stderr.trim().is_empty() { stdout } else { stderr };
            format!("the credential helper {helper} failed: {}", said.trim().replace('\n', " "))
        }
        (CredentialRetrievalError::ConfigReadError, _) => {
            "it is not valid JSON in docker's format".to_owned()
        }
        _ => return Cause::from_error(cause),
    };
    // Without the library's error: it may repeat what a helper printed, which may be a secret.
    text.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn find_user(config: &Value, server: &str) -> Option<String> {
        let found = find_in_config(config.to_string().as_bytes(), server, HelperPolicy::Ignore);
        found.unwrap().map(|credential| credential.user().to_owned())
    }

    /// `user:password` in base64.
    fn entry(user: &str) -> Value {
        use base64::Engine as _;
        let text = format!("{user}:pw");
        json!({ "auth": base64::engine::general_purpose::STANDARD.encode(text) })
    }

    #[test]
    fn every_key_that_docker_podman_and_skopeo_write_is_found() {
        for (key, server) in [
            ("docker.io", DOCKER_HUB_KEY),
            ("index.docker.io", DOCKER_HUB_KEY),
            ("https://index.docker.io/v1/", DOCKER_HUB_KEY),
            ("registry-1.docker.io", DOCKER_HUB_KEY),
            ("https://index.docker.io/v1/", "docker.io/library/nginx"),
            ("docker.io", "https://index.docker.io/v1/org/app"),
            ("reg.corp", "reg.corp"),
            ("https://reg.corp", "reg.corp/a/b"),
            ("https://reg.corp/v2/", "reg.corp"),
            ("http://reg.corp:5000", "reg.corp:5000"),
            ("reg.corp:5000", "reg.corp:5000/a"),
            ("reg.corp:443", "reg.corp"),
            ("reg.corp/a", "reg.corp/a/b"),
        ] {
            let config = json!({ "auths": { key: entry("me") } });
            assert_eq!(find_user(&config, server).as_deref(), Some("me"), "{key} for {server}");
        }
        for (key, server) in [
            ("reg.corp", "reg.corp:5000"),
            ("reg.corp:5000", "reg.corp"),
            ("reg.corp/a", "reg.corp/ab"),
            ("reg.corp/a", "reg.corp"),
            ("docker.io", "ghcr.io"),
            ("reg.corp", "reg.corp.example"),
        ] {
            let config = json!({ "auths": { key: entry("me") } });
            assert_eq!(find_user(&config, server), None, "{key} for {server}");
        }
    }

    #[test]
    fn the_longest_path_counts_and_empty_entries_do_not() {
        let config = json!({ "auths": {
            "reg.corp": entry("host"),
            "reg.corp/team": entry("team"),
            "reg.corp/team/app": entry("app"),
            "reg.corp/team/app/empty": { "auth": "" },
            "reg.corp/team/app/none": {},
            "reg.corp/team/app/colon": { "auth": "Og==" },
        }, "credsStore": "", "credHelpers": { "reg.corp": "" } });
        for (server, expected) in [
            ("reg.corp/other", "host"),
            ("reg.corp/team/x", "team"),
            ("reg.corp/team/app/y", "app"),
            ("reg.corp/team/app/empty", "app"),
            ("reg.corp/team/app/none/z", "app"),
            ("reg.corp/team/app/colon", "app"),
        ] {
            assert_eq!(find_user(&config, server).as_deref(), Some(expected), "{server}");
            let found = find_in_config(config.to_string().as_bytes(), server, HelperPolicy::Run);
            assert_eq!(found.unwrap().unwrap().user(), expected, "an empty helper is none");
        }
        assert_eq!(find_user(&json!({ "credsStore": "" }), "reg.corp"), None);
        assert!(find_in_config(b"{", "x", HelperPolicy::Run).is_err());
    }
}
