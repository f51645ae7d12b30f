//! TLS as a client: which certificates are trusted, for which servers none is checked, and with which
//! certificate the client shows who it is; by options, and by the folders in which docker, podman and
//! containerd look for the same.

mod certificate_folders;
mod pem_files;
mod settings;
mod verifiers;

pub(crate) use self::certificate_folders::list_certificate_folders;
pub(crate) use self::pem_files::read_certificates;
pub use self::settings::UncheckedHosts;
pub(crate) use self::settings::{ClientTlsSettings, HostTls};
