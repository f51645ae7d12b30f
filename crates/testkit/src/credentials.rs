//! A user's name and password, and the files in which servers and clients keep them.

use std::path::Path;

use serde_json::json;

use crate::tools;

/// A name and a password that a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestLogin {
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: String,
}

impl TestLogin {
    /// A login from its two parts.
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: password.to_owned() }
    }

    /// `user:password`, as skopeo's `--creds` takes it.
    pub fn user_and_password(&self) -> String {
        format!("{}:{}", self.user, self.password)
    }

    /// An htpasswd file with this one user, bcrypt as docker-registry demands.
    pub(crate) fn write_htpasswd(&self, file: &Path) {
        let line = tools::run_command(tools::tool_command("htpasswd").args([
            "-Bbn",
            &self.user,
            &self.password,
        ]));
        std::fs::write(file, line).expect("an htpasswd file can be written");
    }

    /// A docker `config.json` in `folder` (for `DOCKER_CONFIG`) that holds this login for `host`.
    pub fn write_docker_config(&self, folder: &Path, host: &str) {
        let config = json!({ "auths": { host: { "auth": encode_base64(self.user_and_password().as_bytes()) } } });
        std::fs::create_dir_all(folder).expect("a config folder can be made");
        std::fs::write(folder.join("config.json"), config.to_string())
            .expect("a docker config can be written");
    }
}

/// Standard base64 with padding (RFC 4648, section 4).
pub(crate) fn encode_base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
