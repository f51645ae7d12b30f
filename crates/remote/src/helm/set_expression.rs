//! Parses the expressions of helm's `--set`: `a.b=1,c[0].d=x,e={f,g}`. Follows helm's own parser
//! (`pkg/strvals/parser.go` in helm 3 and 4), which the tests compare it with.

use std::fmt::Write as _;

/// The highest index in a list, and the deepest nesting of keys, as in helm.
const MAX_INDEX: usize = 65_536;
const MAX_LEVEL: usize = 30;

/// One step to a value: a key of a map, or an index of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SetStep {
    Key(String),
    Index(usize),
}

/// What an expression sets a path to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SetValue {
    /// A text.
    Text(String),
    /// A number, `true`, `false` or `null`, as it is written.
    Typed(String),
    /// A new list; assignments to its items follow.
    List,
}

/// One assignment of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// Parses an expression into its assignments, in their order. The error is in helm's words and never
/// has a value in it.
pub(super) fn parse_set_expression(expression: &str) -> Result<Vec<SetAssignment>, String> {
    let mut scanner = SetScanner { rest: expression.chars().peekable() };
    let mut all = Vec::new();
    while scanner.rest.peek().is_some() {
        scanner.read_assignment(&mut all)?;
    }
    Ok(all)
}

struct SetScanner<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
}

impl SetScanner<'_> {
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
        if self.rest.next_if_eq(&'{').is_none() {
            let (text, _) = self.read_until(&[',']);
            all.push(SetAssignment { path, value: SetValue::of_text(text) });
            return Ok(());
        }
        all.push(SetAssignment { path: path.clone(), value: SetValue::List });
        for index in 0.. {
            let (text, end) = self.read_until(&[',', '}']);
            if end.is_none() {
                return Err("list must terminate with '}'".to_owned());
            }
            let path = path.iter().cloned().chain([SetStep::Index(index)]).collect();
            all.push(SetAssignment { path, value: SetValue::of_text(text) });
            if end == Some('}') {
                break;
            }
        }
        // A comma after the list belongs to it.
        self.rest.next_if_eq(&',');
        Ok(())
    }
}

impl SetValue {
    /// The value that helm takes a text for (`typedVal`).
    fn of_text(text: String) -> Self {
        let is_word = ["true", "false", "null"].iter().any(|word| text.eq_ignore_ascii_case(word));
        // `007` is a text, so that codes and versions keep their zeros.
        let is_number = text == "0" || !text.starts_with('0') && text.parse::<i64>().is_ok();
        if is_word || is_number { Self::Typed(text) } else { Self::Text(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_it_is_read() {
        for expression in ["a.b=x", "a[0][1].b=x", r"a\.b.c\,d\=e\[f\\g=x", "a[2]=x"] {
            let all = parse_set_expression(expression).unwrap_or_default();
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
            assert_eq!(parse_set_expression(expression), Err(expected.to_owned()), "{expression}");
        }
    }
}
