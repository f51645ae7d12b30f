//! The names of bundle files.

/// The file name of a bundle file; `name` is `NAME-VERSION`.
pub(crate) fn numbered_file_name(name: &str, number: u32) -> String {
    format!("{name}.{number:04}.gantry")
}
