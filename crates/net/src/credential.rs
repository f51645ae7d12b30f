//! A credential for a server.

/// A credential for one registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password or token.
    Password {
        /// The name.
        user: String,
        /// The secret.
        password: String,
    },
    /// An identity token (docker login with OAuth): exchanged for access tokens.
    IdentityToken(String),
}

impl Credential {
    /// The name, for messages; never the secret.
    pub fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } => user,
            Self::IdentityToken(_) => "an identity token",
        }
    }
}

// By hand: a secret must never reach a log.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({})", self.user())
    }
}
