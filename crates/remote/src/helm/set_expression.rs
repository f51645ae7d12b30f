//! Parses the expressions of helm's options `--set`, `--set-string`, `--set-file` and `--set-json`:
//! `a.b=1,c[0].d=x,e={f,g}`, `a={"b":[1]}`. Follows helm's own parser (`pkg/strvals/parser.go` in helm 3
//! and 4), which the tests compare it with.

use std::fmt::{self, Write as _};

use serde_json::Value;

/// The highest index in a list, and the deepest nesting of keys, as in helm.
pub(super) const MAX_INDEX: usize = 65_536;
pub(super) const MAX_LEVEL: usize = 30;

/// The option of an expression, which decides what its values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetOption {
    /// `--set-json`: JSON.
    Json,
    /// `--set`: a number, a truth value, null, or else a text.
    Typed,
    /// `--set-string`: always a text.
    String,
    /// `--set-file`: the path of a file with the text.
    File,
}

impl SetOption {
    /// The option on helm's command line.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Json => "--set-json",
            Self::Typed => "--set",
            Self::String => "--set-string",
            Self::File => "--set-file",
        }
    }

    /// The value that helm takes a text for (`typedVal`).
    fn read_text(self, text: String) -> SetValue {
        match self {
            Self::File => return SetValue::File(text),
            Self::String | Self::Json => return SetValue::Text(text),
            Self::Typed => {}
        }
        let is_word = ["true", "false", "null"].iter().any(|word| text.eq_ignore_ascii_case(word));
        // `007` is a text, so that codes and versions keep their zeros.
        let is_number = text == "0" || !text.starts_with('0') && text.parse::<i64>().is_ok();
        if is_word || is_number { SetValue::Typed(text) } else { SetValue::Text(text) }
    }
}

impl fmt::Display for SetOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One step to a value: a key of a map, or an index of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SetStep {
    Key(String),
    Index(usize),
}

/// What an expression sets a path to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum SetValue {
    /// A text.
    Text(String),
    /// The text of the file with this path.
    File(String),
    /// A number, `true`, `false` or `null`, as it is written.
    Typed(String),
    /// A new list; assignments to its items follow.
    List,
    /// A JSON value. With an empty path, a map that is merged into the values.
    Json(Value),
}

/// One assignment of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SetAssignment {
    pub(super) path: Vec<SetStep>,
    pub(super) value: SetValue,
}

impl SetAssignment {
    /// The path in helm's syntax.
    pub(super) fn format_path(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                SetStep::Key(key) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    escape_into(&mut text, key, &['\\', '.', '[', '=', ',']);
                }
                // Writing into a String cannot fail.
                SetStep::Index(index) => drop(write!(text, "[{index}]")),
            }
        }
        text
    }

    /// Whether its value is a text, which is handed over in a file.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.value, SetValue::Text(_) | SetValue::File(_))
    }
}

/// Appends a text with a backslash before each of these characters.
pub(super) fn escape_into(target: &mut String, text: &str, special: &[char]) {
    for letter in text.chars() {
        if special.contains(&letter) {
            target.push('\\');
        }
        target.push(letter);
    }
}

/// Parses an expression of an option into its assignments, in their order. The error is in helm's words
/// and never has a value in it.
pub(super) fn parse_set_expression(
    option: SetOption,
    expression: &str,
) -> Result<Vec<SetAssignment>, String> {
    if option == SetOption::Json && expression.trim_start().starts_with('{') {
        let value =
            serde_json::from_str(expression).map_err(|error| describe_json_fault(&error))?;
        return Ok(vec![SetAssignment { path: vec![], value: SetValue::Json(value) }]);
    }
    let mut scanner = SetScanner { option, rest: expression.chars() };
    let mut all = Vec::new();
    while !scanner.is_at_end() {
        scanner.read_assignment(&mut all)?;
    }
    Ok(all)
}

/// What is wrong with a JSON value, without any of its text.
fn describe_json_fault(error: &serde_json::Error) -> String {
    format!("the value is not valid JSON (line {}, column {})", error.line(), error.column())
}

struct SetScanner<'a> {
    option: SetOption,
    rest: std::str::Chars<'a>,
}

impl SetScanner<'_> {
    fn is_at_end(&self) -> bool {
        self.rest.as_str().is_empty()
    }

    /// Skips this character, if it is the next one.
    fn skip_character(&mut self, wanted: char) -> bool {
        let is_next = self.rest.as_str().starts_with(wanted);
        if is_next {
            self.rest.next();
        }
        is_next
    }

    /// Reads up to one of these characters, which is consumed and returned; a backslash takes the next
    /// character as it is. `None` is the end of the expression.
    fn read_until(&mut self, stop: &[char]) -> (String, Option<char>) {
        let mut text = String::new();
        while let Some(letter) = self.rest.next() {
            match letter {
                letter if stop.contains(&letter) => return (text, Some(letter)),
                '\\' => text.extend(self.rest.next()),
                letter => text.push(letter),
            }
        }
        (text, None)
    }

    fn read_assignment(&mut self, all: &mut Vec<SetAssignment>) -> Result<(), String> {
        let mut path = Vec::new();
        let mut level = 0;
        // After `]` no key may follow directly: `a[0]b=1`.
        let mut is_after_index = false;
        loop {
            let stop: &[char] =
                if is_after_index { &['[', '.', '='] } else { &['=', '[', ',', '.'] };
            let (key, end) = self.read_until(stop);
            if is_after_index && !key.is_empty() {
                return Err(format!("unexpected data at end of array index: {key:?}"));
            }
            match end {
                None if is_after_index => return Err("there is no value after an index".to_owned()),
                None => return Err(format!("key {key:?} has no value")),
                Some(',') => {
                    return Err(format!("key {key:?} has no value (cannot end with ,)"));
                }
                _ => {}
            }
            if !is_after_index {
                // helm drops such values without a word.
                if key.is_empty() {
                    return Err("a key is empty".to_owned());
                }
                path.push(SetStep::Key(key));
            }
            match end {
                Some('[') => {
                    path.push(SetStep::Index(self.read_index()?));
                    is_after_index = true;
                }
                Some('.') => {
                    level += 1;
                    if level > MAX_LEVEL {
                        return Err(format!("value name nested level is greater than {MAX_LEVEL}"));
                    }
                    is_after_index = false;
                }
                _ if self.option == SetOption::Json => {
                    all.push(SetAssignment { path, value: SetValue::Json(self.read_json()?) });
                    return Ok(());
                }
                _ => return self.read_value(path, all),
            }
        }
    }

    fn read_index(&mut self) -> Result<usize, String> {
        let (text, end) = self.read_until(&[']']);
        let number = text.parse::<i64>().ok().filter(|_| end.is_some());
        let number = number.ok_or_else(|| {
            "error parsing index: write a number in brackets, as in list[0]".to_owned()
        })?;
        let index = usize::try_from(number);
        let index = index.map_err(|_| format!("negative {number} index not allowed"))?;
        if index > MAX_INDEX {
            return Err(format!(
                "index of {index} is greater than maximum supported index of {MAX_INDEX}"
            ));
        }
        Ok(index)
    }

    /// Reads a value, or a list in braces.
    fn read_value(
        &mut self,
        path: Vec<SetStep>,
        all: &mut Vec<SetAssignment>,
    ) -> Result<(), String> {
        if !self.skip_character('{') {
            let is_last = self.is_at_end();
            let (text, _) = self.read_until(&[',']);
            // helm gives an empty text at the very end of an expression another meaning than elsewhere:
            // `a[0].b=` makes an empty list (`listItem`). It is no secret: helm reads it itself.
            let value = match is_last {
                true => SetValue::Typed(text),
                false => self.option.read_text(text),
            };
            all.push(SetAssignment { path, value });
            return Ok(());
        }
        all.push(SetAssignment { path: path.clone(), value: SetValue::List });
        for index in 0.. {
            let (text, end) = self.read_until(&[',', '}']);
            if end.is_none() {
                return Err("list must terminate with '}'".to_owned());
            }
            let path = path.iter().cloned().chain([SetStep::Index(index)]).collect();
            all.push(SetAssignment { path, value: self.option.read_text(text) });
            if end == Some('}') {
                break;
            }
        }
        // A comma after the list belongs to it.
        self.skip_character(',');
        Ok(())
    }

    /// Reads a JSON value and the comma after it. No value at all is null.
    fn read_json(&mut self) -> Result<Value, String> {
        if self.skip_empty_value() {
            return Ok(Value::Null);
        }
        let text = self.rest.as_str();
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        let value = match values.next() {
            Some(value) => value.map_err(|error| describe_json_fault(&error))?,
            None => Value::Null,
        };
        self.rest = text.get(values.byte_offset()..).unwrap_or_default().chars();
        self.skip_empty_value();
        Ok(value)
    }

    /// Skips spaces, and a comma behind them; `false` when a value follows (`emptyVal`).
    fn skip_empty_value(&mut self) -> bool {
        self.rest = self.rest.as_str().trim_start().chars();
        self.is_at_end() || self.skip_character(',')
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_path_is_written_as_it_is_read() {
        for expression in ["a.b=x", "a[0][1].b=x", r"a\.b.c\,d\=e\[f\\g=x", "a[2]=x"] {
            let all = parse_set_expression(SetOption::Typed, expression).unwrap_or_default();
            assert_eq!(format!("{}=x", all[0].format_path()), expression);
        }
    }

    #[test]
    fn a_mistake_is_told_without_the_value() {
        for (expression, expected) in [
            ("image", "key \"image\" has no value"),
            ("a=1,image", "key \"image\" has no value"),
            ("a,b=1", "key \"a\" has no value (cannot end with ,)"),
            ("a[=secret", "error parsing index: write a number in brackets, as in list[0]"),
            ("a[x]=secret", "error parsing index: write a number in brackets, as in list[0]"),
            ("a[-1]=secret", "negative -1 index not allowed"),
            ("a[65537]=x", "index of 65537 is greater than maximum supported index of 65536"),
            ("a[0]b=secret", "unexpected data at end of array index: \"b\""),
            ("a[0]", "there is no value after an index"),
            ("a={secret,b", "list must terminate with '}'"),
            ("=secret", "a key is empty"),
            ("a..b=secret", "a key is empty"),
        ] {
            for option in [SetOption::Typed, SetOption::String, SetOption::File] {
                let parsed = parse_set_expression(option, expression);
                assert_eq!(parsed, Err(expected.to_owned()), "{expression}");
            }
        }
        for expression in ["a=secret", "a={\"secret\"", "{\"a\": secret}", "a=1,b=[secret]"] {
            let error = parse_set_expression(SetOption::Json, expression).unwrap_err();
            assert!(error.contains("not valid JSON") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_option_decides_what_a_value_is() {
        let value = |option| {
            let mut all = parse_set_expression(option, "a=1").unwrap_or_default();
            all.remove(0).value
        };
        assert_eq!(value(SetOption::Typed), SetValue::Typed("1".into()));
        assert_eq!(value(SetOption::String), SetValue::Text("1".into()));
        assert_eq!(value(SetOption::File), SetValue::File("1".into()));
        assert_eq!(value(SetOption::Json), SetValue::Json(1.into()));
    }
}
