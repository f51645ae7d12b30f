//! Finds the user's token for the Hub in the same places as huggingface_hub 2.4 (`utils/_auth.py`,
//! `constants.py`).

use std::env;
use std::path::PathBuf;

/// The token from the environment, or else from the file that `hf auth login` wrote.
pub(super) fn find_token() -> Option<String> {
    let variable = |name: &str| env::var(name).ok();
    // The second name is deprecated, but huggingface_hub still reads it.
    ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]
        .into_iter()
        .find_map(|name| clean_token(&variable(name)?))
        .or_else(|| clean_token(&std::fs::read_to_string(token_file_path()?).ok()?))
}

/// The path of the token file: `HF_TOKEN_PATH`, or `token` in the folder of huggingface_hub.
fn token_file_path() -> Option<PathBuf> {
    let folder =
        |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = folder("HF_TOKEN_PATH") {
        return Some(path);
    }
    let home = folder("HF_HOME")
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("huggingface")))
        .or_else(|| Some(folder("HOME")?.join(".cache/huggingface")))?;
    Some(home.join("token"))
}

/// Removes line breaks and blanks, which copying a token often adds. `None` when nothing is left.
fn clean_token(text: &str) -> Option<String> {
    let token: String = text.chars().filter(|sign| !matches!(sign, '\r' | '\n')).collect();
    let token = token.trim();
    (!token.is_empty()).then(|| token.to_owned())
}
