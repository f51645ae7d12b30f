//! TLS as a client: which certificates are trusted, for which servers none is checked, and with which
//! certificate the client shows who it is; by options, and by the folders in which docker, podman and
//! containerd look for the same.

mod certificate_folders;
mod client_certificate;
mod pem_files;
mod settings;
mod verifiers;

pub(crate) use self::certificate_folders::list_certificate_folders;
pub use self::client_certificate::ClientCertificate;
pub(crate) use self::pem_files::read_certificates;
pub(crate) use self::settings::ClientTlsSettings;
pub use self::settings::UncheckedHosts;
