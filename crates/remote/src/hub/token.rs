//! The token of the Hub, where huggingface_hub finds it (2.4: `utils/_auth.py`, `constants.py`).

use std::env;
use std::path::PathBuf;

/// The token of the environment, or of the file that `hf auth login` writes.
pub(super) fn find() -> Option<String> {
    let variable = |name: &str| env::var(name).ok();
    ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]
        .into_iter()
        .find_map(|name| clean(&variable(name)?))
        .or_else(|| clean(&std::fs::read_to_string(file()?).ok()?))
}

fn file() -> Option<PathBuf> {
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

fn clean(text: &str) -> Option<String> {
    let token: String = text.chars().filter(|sign| !matches!(sign, '\r' | '\n')).collect();
    let token = token.trim();
    (!token.is_empty()).then(|| token.to_owned())
}
