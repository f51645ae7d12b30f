//! Hands the values of `--set` expressions to helm in files. On its command line everybody on the
//! machine could read them (`/proc/PID/cmdline`, `ps`), and they may be passwords.
//!
//! ```text
//! --set db.user=me,db.password=secret,db.port=5432
//!   ──▶  --set db.port=5432 --set-file db.user=FOLDER/0 --set-file db.password=FOLDER/1
//! ```
//!
//! `--set-file` sets a path to the text of a file, byte for byte. Numbers, `true`, `false` and `null` stay
//! on the command line: helm reads a number of a values file as floating point, which some templates print
//! in another way (`1e+06`).

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use types::Cause;

use super::set_expression::{SetAssignment, SetStep, SetValue, escape_into, parse_set_expression};
use crate::scratch::ScratchFolder;

/// Arguments for helm, and the files that they name. The files are removed when this is dropped.
#[derive(Debug)]
pub(super) struct SetArguments {
    /// The arguments.
    pub(super) arguments: Vec<OsString>,
    _files: Option<ScratchFolder>,
}

impl SetArguments {
    /// Writes the files for `--set` expressions.
    ///
    /// # Errors
    /// The message says what is wrong with an expression, or why a file cannot be written.
    pub(super) fn write(expressions: &[String]) -> Result<Self, Cause> {
        if expressions.is_empty() {
            return Ok(Self { arguments: vec![], _files: None });
        }
        let all = collect_assignments(expressions)
            .map_err(|reason| format!("failed parsing --set data: {reason}"))?;
        let files = ScratchFolder::new("gantry-set-").map_err(Cause::from_error)?;
        let (mut typed, mut texts) = (Vec::new(), Vec::new());
        for (number, assignment) in all.iter().enumerate() {
            let path = assignment.format_path();
            match &assignment.value {
                SetValue::Typed(value) => typed.push(("--set", format!("{path}={value}"))),
                // helm makes a list of one empty text of this; its items follow.
                SetValue::List => typed.push(("--set", format!("{path}={{}}"))),
                SetValue::Text(text) => {
                    let file = files.path().join(number.to_string());
                    write_value(&file, text)?;
                    let mut option = format!("{path}=");
                    escape_into(&mut option, &file.to_string_lossy(), &['\\', ',']);
                    texts.push(("--set-file", option));
                }
            }
        }
        // helm evaluates all of `--set` before `--set-file`, whatever their order is.
        let all = typed.into_iter().chain(texts);
        let arguments = all.flat_map(|(option, value)| [option.into(), value.into()]).collect();
        Ok(Self { arguments, _files: Some(files) })
    }
}

/// All assignments that count: one that a later one replaces would win as a file.
fn collect_assignments(expressions: &[String]) -> Result<Vec<SetAssignment>, String> {
    let mut all: Vec<SetAssignment> = Vec::new();
    for expression in expressions {
        let mut parsed = parse_set_expression(expression)?;
        // helm gives an empty text at the very end of an expression another meaning than elsewhere:
        // `a[0].b=` makes an empty list (pkg/strvals, `listItem`). It is no secret: helm reads it itself.
        if let Some(last) = parsed.last_mut()
            && expression.ends_with('=')
            && last.value == SetValue::Text(String::new())
        {
            last.value = SetValue::Typed(String::new());
        }
        for next in parsed {
            all.retain(|earlier| !earlier.path.starts_with(&next.path));
            for earlier in &all {
                let is_text = matches!(earlier.value, SetValue::Text(_));
                if is_text && next.path.starts_with(&earlier.path) {
                    // An item of a list becomes a map, any other text is an error in helm.
                    let is_item = matches!(earlier.path.last(), Some(SetStep::Index(_)));
                    let is_map = matches!(next.path[earlier.path.len()], SetStep::Key(_));
                    if !(is_item && is_map) {
                        let path = earlier.format_path();
                        return Err(format!("unable to parse key: {path} is set to a text before"));
                    }
                }
            }
            all.retain(|earlier| {
                let is_text = matches!(earlier.value, SetValue::Text(_));
                !(is_text && next.path.starts_with(&earlier.path))
            });
            all.push(next);
        }
    }
    Ok(all)
}

fn write_value(path: &Path, text: &str) -> Result<(), Cause> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Cause::about(format!("cannot write {}", path.display()), error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn write(expressions: &[&str]) -> Result<SetArguments, String> {
        let expressions: Vec<String> = expressions.iter().map(ToString::to_string).collect();
        SetArguments::write(&expressions).map_err(|cause| cause.to_string())
    }

    #[test]
    fn texts_are_in_files_that_only_their_user_reads() {
        let set = write(&["db.password=secret,db.port=5432", "on=true"]).unwrap();

        let words: Vec<&str> = set.arguments.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(words[..4], ["--set", "db.port=5432", "--set", "on=true"]);
        let file = Path::new(words[5].strip_prefix("db.password=").unwrap());
        assert_eq!((words[4], words.len()), ("--set-file", 6));
        assert_eq!(std::fs::read_to_string(file).unwrap(), "secret");
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        let file = file.to_owned();
        drop(set);
        assert!(!file.exists());
    }

    #[test]
    fn what_is_replaced_later_is_not_handed_over() {
        let count = |expressions: &[&str]| write(expressions).unwrap().arguments.len() / 2;
        assert_eq!(count(&["a=x", "a=y"]), 1);
        assert_eq!(count(&["a.b=x,a.c=y", "a=null"]), 1);
        assert_eq!(count(&["a={x,y}", "a={z}"]), 2);
        assert_eq!(count(&["a[0]=x", "a[0].b=y"]), 1);
        let error = write(&["a=secret", "a.b=1"]).unwrap_err();
        assert!(
            error.contains("a is set to a text before") && !error.contains("secret"),
            "{error}"
        );
    }
}
