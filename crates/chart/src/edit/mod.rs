//! Documents inside texts: reads them, finds where a value is written in them, and changes it there
//! while everything around it keeps every byte. The only readers of JSON, TOML, INI and base64 in
//! this crate; YAML that helm rendered is read by [`crate::manifest`].
//!
//! - `embedded`: opens the document in a text, whatever its format, and follows paths into it.
//! - `source`: where a scalar, list or map is written; `yaml`, `toml` and `ini` know the formats.
//! - `rewrite`: replaces words, also inside encoded texts. `insert`: adds items, keys and scalars.
//!   `document_edit`: the same in the text and in the parsed value, for a proof.

pub(crate) mod document_edit;
pub(crate) mod embedded;
mod ini;
pub(crate) mod insert;
mod position;
pub(crate) mod rewrite;
mod source;
mod toml;
mod yaml;
