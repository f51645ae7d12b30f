//! Hands the values of `--set` and its siblings to helm in files. On its command line everybody on the
//! machine could read them (`/proc/PID/cmdline`, `ps`), and they may be passwords.
//!
//! ```text
//! --set db.user=me,db.password=secret,db.port=5432
//!   ──▶  --set db.port=5432 --set-file db.user=FOLDER/0 --set-file db.password=FOLDER/1
//! --set-json 'users=[{"name":"me","id":7}]'
//!   ──▶  --set-json 'users=[{"name":"","id":7}]' --set-file users[0].name=FOLDER/0
//! ```
//!
//! `--set-file` sets a path to the text of a file, byte for byte. Numbers, `true`, `false` and `null` stay
//! on the command line: helm reads a number of a values file as floating point, which some templates print
//! in another way (`1e+06`).

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;
use types::Cause;
use types::input::SetExpressions;

use super::set_expression::{
    MAX_INDEX, MAX_LEVEL, SetAssignment, SetOption, SetStep, SetValue, escape_into,
    parse_set_expression,
};
use crate::scratch::ScratchFolder;

/// Arguments for helm, and the files that they name. The files are removed when this is dropped.
#[derive(Debug)]
pub(super) struct SetArguments {
    /// The arguments.
    pub(super) arguments: Vec<OsString>,
    _files: Option<ScratchFolder>,
}

impl SetArguments {
    /// Writes the files for expressions.
    ///
    /// # Errors
    /// The message says what is wrong with an expression, or which file cannot be read or written.
    pub(super) fn write(expressions: &SetExpressions) -> Result<Self, Cause> {
        if expressions.is_empty() {
            return Ok(Self { arguments: vec![], _files: None });
        }
        let all = collect_assignments(expressions)?;
        let files = ScratchFolder::new("gantry-set-").map_err(Cause::from_error)?;
        let (mut open, mut texts) = (Vec::new(), Vec::new());
        for (number, assignment) in all.iter().enumerate() {
            let path = assignment.format_path();
            let file = files.path().join(number.to_string());
            match &assignment.value {
                SetValue::Typed(value) => open.push((SetOption::Typed, format!("{path}={value}"))),
                // helm makes a list of one empty text of this; its items follow.
                SetValue::List => open.push((SetOption::Typed, format!("{path}={{}}"))),
                SetValue::Json(value) if path.is_empty() => {
                    open.push((SetOption::Json, value.to_string()));
                }
                SetValue::Json(value) => open.push((SetOption::Json, format!("{path}={value}"))),
                SetValue::Text(text) => {
                    write_value(&file, text)?;
                    texts.push((SetOption::File, format_file_option(&path, &file)));
                }
                SetValue::File(source) => {
                    link_value(&file, Path::new(source), &path)?;
                    texts.push((SetOption::File, format_file_option(&path, &file)));
                }
            }
        }
        // helm evaluates `--set-json` first, then `--set`, then `--set-file`, whatever their order is.
        let all = open.into_iter().chain(texts);
        let arguments =
            all.flat_map(|(option, value)| [option.as_str().into(), value.into()]).collect();
        Ok(Self { arguments, _files: Some(files) })
    }
}

/// The same `--set-file` expression with other paths: `change` gets each path and returns the new one.
///
/// # Errors
/// The message says what is wrong with the expression, or is that of `change`. It has no value in it.
pub fn rewrite_set_file_paths(
    expression: &str,
    change: &mut dyn FnMut(&Path) -> Result<PathBuf, Cause>,
) -> Result<String, Cause> {
    let all = parse_expression(SetOption::File, expression)?;
    let mut parts: Vec<String> = Vec::new();
    let mut rest = all.iter().peekable();
    while let Some(assignment) = rest.next() {
        let mut part = format!("{}=", assignment.format_path());
        let mut add_path = |part: &mut String, path: &str| {
            let path = change(Path::new(path))?;
            let text = path.to_str().ok_or_else(|| {
                Cause::from(format!("the path {} is not valid UTF-8", path.display()))
            })?;
            escape_into(part, text, &['\\', ',', '}']);
            Ok::<_, Cause>(())
        };
        match &assignment.value {
            SetValue::File(path) => add_path(&mut part, path)?,
            SetValue::List => {
                part.push('{');
                let is_item = |next: &&SetAssignment| {
                    next.path.len() > assignment.path.len()
                        && next.path.starts_with(&assignment.path)
                };
                let mut is_first = true;
                while let Some(SetAssignment { value: SetValue::File(path), .. }) =
                    rest.next_if(|next| is_item(next))
                {
                    if !is_first {
                        part.push(',');
                    }
                    is_first = false;
                    add_path(&mut part, path)?;
                }
                part.push('}');
            }
            // An empty value at the very end, which names no file.
            SetValue::Text(_) | SetValue::Typed(_) | SetValue::Json(_) => {}
        }
        parts.push(part);
    }
    Ok(parts.join(","))
}

fn parse_expression(option: SetOption, expression: &str) -> Result<Vec<SetAssignment>, String> {
    parse_set_expression(option, expression)
        .map_err(|reason| format!("failed parsing {option} data: {reason}"))
}

/// All assignments that count, in helm's order: one that a later one replaces would win as a file.
fn collect_assignments(expressions: &SetExpressions) -> Result<Vec<SetAssignment>, String> {
    let mut all: Vec<SetAssignment> = Vec::new();
    for (option, expressions) in [
        (SetOption::Json, &expressions.json),
        (SetOption::Typed, &expressions.typed),
        (SetOption::String, &expressions.strings),
        (SetOption::File, &expressions.files),
    ] {
        for expression in expressions {
            for next in parse_expression(option, expression)? {
                add_assignment(&mut all, next)
                    .map_err(|reason| format!("failed parsing {option} data: {reason}"))?;
            }
        }
    }
    Ok(all)
}

fn add_assignment(all: &mut Vec<SetAssignment>, next: SetAssignment) -> Result<(), String> {
    let SetAssignment { mut path, value } = next;
    match value {
        SetValue::Json(mut value) => {
            match path.is_empty() {
                true => drop_merged_texts(all, &value, &mut path),
                false => drop_replaced_assignments(all, &path)?,
            }
            let mut texts = Vec::new();
            take_texts(&mut value, &mut path, &mut texts);
            all.push(SetAssignment { path, value: SetValue::Json(value) });
            all.extend(texts);
        }
        value => {
            drop_replaced_assignments(all, &path)?;
            all.push(SetAssignment { path, value });
        }
    }
    Ok(())
}

/// Drops the assignments that one to this path replaces.
fn drop_replaced_assignments(all: &mut Vec<SetAssignment>, path: &[SetStep]) -> Result<(), String> {
    all.retain(|earlier| earlier.path.is_empty() || !earlier.path.starts_with(path));
    for earlier in all.iter() {
        if earlier.is_text() && path.starts_with(&earlier.path) {
            // An item of a list becomes a map, any other text is an error in helm.
            let is_item = matches!(earlier.path.last(), Some(SetStep::Index(_)));
            let is_map = matches!(path[earlier.path.len()], SetStep::Key(_));
            if !(is_item && is_map) {
                let path = earlier.format_path();
                return Err(format!("unable to parse key: {path} is set to a text before"));
            }
        }
    }
    all.retain(|earlier| !(earlier.is_text() && path.starts_with(&earlier.path)));
    Ok(())
}

/// Drops the texts that a map replaces which is merged into the values: maps are merged with maps, and
/// everything else replaces what was there.
fn drop_merged_texts(all: &mut Vec<SetAssignment>, value: &Value, path: &mut Vec<SetStep>) {
    let Value::Object(map) = value else {
        all.retain(|earlier| !(earlier.is_text() && earlier.path.starts_with(path)));
        return;
    };
    all.retain(|earlier| !(earlier.is_text() && earlier.path == *path));
    for (key, value) in map {
        path.push(SetStep::Key(key.clone()));
        drop_merged_texts(all, value, path);
        path.pop();
    }
}

/// Takes the texts out of a JSON value, and adds an assignment for each. What no expression can name (an
/// empty key, 30 levels of keys) stays in it.
fn take_texts(value: &mut Value, path: &mut Vec<SetStep>, texts: &mut Vec<SetAssignment>) {
    match value {
        Value::String(text) => {
            let keys = path.iter().filter(|step| matches!(step, SetStep::Key(_))).count();
            let is_nameable = path.iter().all(|step| match step {
                SetStep::Key(key) => !key.is_empty(),
                SetStep::Index(index) => *index <= MAX_INDEX,
            });
            if is_nameable && (1..=MAX_LEVEL + 1).contains(&keys) {
                let value = SetValue::Text(std::mem::take(text));
                texts.push(SetAssignment { path: path.clone(), value });
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(SetStep::Index(index));
                take_texts(item, path, texts);
                path.pop();
            }
        }
        Value::Object(map) => {
            for (key, item) in map.iter_mut() {
                path.push(SetStep::Key(key.clone()));
                take_texts(item, path, texts);
                path.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `path=FILE`, as `--set-file` takes it.
fn format_file_option(path: &str, file: &Path) -> String {
    let mut option = format!("{path}=");
    escape_into(&mut option, &file.to_string_lossy(), &['\\', ',']);
    option
}

fn write_value(path: &Path, text: &str) -> Result<(), Cause> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Cause::about(format!("cannot write {}", path.display()), error))
}

/// Makes a link to a user's file: helm takes a path for a URL, and would not find every path. `key` is for
/// the error.
fn link_value(link: &Path, source: &Path, key: &str) -> Result<(), Cause> {
    let failed = |error| {
        Cause::about(
            format!("cannot read the file {} of --set-file {key}", source.display()),
            error,
        )
    };
    // helm's own error would name the link.
    let file = File::open(source).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(format!("{} of --set-file {key} is a folder", source.display()).into());
    }
    let source = std::path::absolute(source).map_err(failed)?;
    symlink(source, link)
        .map_err(|error| Cause::about(format!("cannot write {}", link.display()), error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn set(expressions: &[&str]) -> SetExpressions {
        let typed = expressions.iter().map(ToString::to_string).collect();
        SetExpressions { typed, ..SetExpressions::default() }
    }

    fn json(expressions: &[&str]) -> SetExpressions {
        SetExpressions { json: set(expressions).typed, ..SetExpressions::default() }
    }

    fn write(expressions: &SetExpressions) -> Result<SetArguments, String> {
        SetArguments::write(expressions).map_err(|cause| cause.to_string())
    }

    fn words(set: &SetArguments) -> Vec<&str> {
        set.arguments.iter().map(|word| word.to_str().unwrap()).collect()
    }

    #[test]
    fn texts_are_in_files_that_only_their_user_reads() {
        let set = write(&set(&["db.password=secret,db.port=5432", "on=true"])).unwrap();

        let words = words(&set);
        assert_eq!(words[..4], ["--set", "db.port=5432", "--set", "on=true"]);
        let file = Path::new(words[5].strip_prefix("db.password=").unwrap()).to_owned();
        assert_eq!((words[4], words.len()), ("--set-file", 6));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "secret");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        drop(set);
        assert!(!file.exists());
    }

    #[test]
    fn texts_in_json_are_in_files_too() {
        let given = json(&[r#"users=[{"name":"me","id":7}],on=true"#, r#"{"a":{"b":"secret"}}"#]);
        let set = write(&given).unwrap();
        let words = words(&set);
        let left: Value = serde_json::from_str(words[1].strip_prefix("users=").unwrap()).unwrap();
        assert_eq!(left, serde_json::json!([{"id": 7, "name": ""}]));
        assert_eq!(words[..6].iter().filter(|word| **word == "--set-json").count(), 3);
        assert_eq!((words[3], words[5]), ("on=true", r#"{"a":{"b":""}}"#));
        assert!(words[7].starts_with("users[0].name=") && words[9].starts_with("a.b="));
        assert!(!words.iter().any(|word| word.contains("secret") || word.contains("\"me\"")));
    }

    #[test]
    fn what_is_replaced_later_is_not_handed_over() {
        let count = |set: &SetExpressions| write(set).unwrap().arguments.len() / 2;
        assert_eq!(count(&set(&["a=x", "a=y"])), 1);
        assert_eq!(count(&set(&["a.b=x,a.c=y", "a=null"])), 1);
        assert_eq!(count(&set(&["a={x,y}", "a={z}"])), 2);
        assert_eq!(count(&set(&["a[0]=x", "a[0].b=y"])), 1);
        assert_eq!(count(&json(&[r#"a="x""#, "a=1"])), 1);
        // The first one stays: the merged map may keep a part of it, but not the text.
        assert_eq!(count(&json(&[r#"a="x""#, r#"{"a":1}"#])), 2);
        assert_eq!(count(&json(&[r#"a={"b":"x"}"#, r#"{"a":{"c":1}}"#])), 3);
        let both = SetExpressions { json: vec![r#"a="x""#.into()], ..set(&["a=1"]) };
        assert_eq!(count(&both), 1);
        let error = write(&set(&["a=secret", "a.b=1"])).unwrap_err();
        assert!(
            error.contains("a is set to a text before") && !error.contains("secret"),
            "{error}"
        );
    }

    #[test]
    fn a_file_is_named_by_a_link_and_a_missing_one_by_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("100%, really");
        std::fs::write(&path, "secret").unwrap();
        let change = &mut |name: &Path| Ok(folder.path().join(name));
        let given = rewrite_set_file_paths(r"realm.data=100%\, really", change).unwrap();
        let set = write(&SetExpressions { files: vec![given], ..SetExpressions::default() });
        let set = set.unwrap();
        let link = words(&set)[1].strip_prefix("realm.data=").unwrap().to_owned();
        assert_eq!(std::fs::read_to_string(link).unwrap(), "secret");

        for (file, expected) in
            [("none", "cannot read the file none of --set-file a"), ("/", "is a folder")]
        {
            let files = vec![format!("a={file}")];
            let error = write(&SetExpressions { files, ..SetExpressions::default() }).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_paths_of_an_expression_are_rewritten_and_nothing_else() {
        let change = &mut |path: &Path| Ok(Path::new("/x").join(path));
        for (given, expected) in [
            ("a=f", "a=/x/f"),
            (r"a\.b[0].c=f\,g,d=/y", r"a\.b[0].c=/x/f\,g,d=/y"),
            ("a={f,g},b=h", "a={/x/f,/x/g},b=/x/h"),
            ("a=", "a="),
        ] {
            assert_eq!(rewrite_set_file_paths(given, change).unwrap(), expected);
        }
        assert!(rewrite_set_file_paths("a", change).is_err());
    }
}
