//! Evaluates conditions of templates (`if and .Values.a.enabled (eq .Values.b "x")`) with the
//! chart's values, to explain to people why something was not rendered. A small subset of Go
//! templates: variables, pipes and unknown functions make the result unknown, never wrong.

use serde_json::Value;

use crate::path::Path;

/// What is known about the value of an expression.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Its value; `None` if it is unknown.
    value: Option<Value>,
    /// The reasons why it is false, for people: `a.enabled is off`.
    why: Vec<String>,
}

/// Whether a condition is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is true.
    Holds,
    /// It is false, for these reasons.
    Not(Vec<String>),
    /// The values alone do not decide it.
    Unknown,
}

/// Evaluates a condition. `scope` is the path of the values that `.Values` refers to in its chart.
pub(super) fn answer(expression: &str, effective: &Value, scope: &Path) -> Answer {
    let tokens = tokens(expression);
    let mut reader = Reader { tokens: &tokens, effective, scope, depth: 0 };
    match reader.pipeline() {
        Known { value: Some(value), .. } if is_true(&value) => Answer::Holds,
        Known { value: Some(_), why } if !why.is_empty() => Answer::Not(why),
        _ => Answer::Unknown,
    }
}

/// Finds the paths of the values that an expression names: `.Values.a.b`, `index .Values "a" "b"`.
/// An empty path means all values, or a key that is computed by the template.
pub(super) fn values_in(expression: &str) -> Vec<Vec<String>> {
    let tokens = tokens(expression);
    let mut paths = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let Some(mut path) = path_of(token) else { continue };
        if path.is_empty() && index > 0 && tokens[index - 1] == "index" {
            let keys = tokens[index + 1..].iter().map_while(|token| text_of(token));
            path = keys.map(str::to_owned).collect();
        }
        paths.push(path);
    }
    paths
}

/// Parses the keys after `.Values`, `$.Values` or `$root.Values`; `None` for any other token.
fn path_of(token: &str) -> Option<Vec<String>> {
    let (before, behind) = token.split_once(".Values")?;
    let is_root = before.is_empty() || before.starts_with('$') && !before.contains('"');
    if !is_root || !(behind.is_empty() || behind.starts_with('.')) {
        return None;
    }
    Some(behind.split('.').filter(|key| !key.is_empty()).map(str::to_owned).collect())
}

/// The content of a string literal.
fn text_of(token: &str) -> Option<&str> {
    token.strip_prefix('"')?.strip_suffix('"')
}

/// Splits an expression into words, string literals, parentheses and pipes.
fn tokens(expression: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' | '|' | ',' => 1,
            '"' | '`' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
            _ => rest
                .find(|c: char| c.is_whitespace() || "()|,\"`".contains(c))
                .unwrap_or(rest.len()),
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// The evaluation of one expression.
struct Reader<'a> {
    /// The tokens that are not consumed yet.
    tokens: &'a [&'a str],
    effective: &'a Value,
    scope: &'a Path,
    /// How many parentheses are open.
    depth: usize,
}

impl Reader<'_> {
    /// Evaluates up to the closing parenthesis or the end. An expression with a pipe is unknown:
    /// the functions that are used there (`default`, `quote`) are too many to reproduce.
    fn pipeline(&mut self) -> Known {
        // Keeps a crafted template from exhausting the stack.
        const DEEPEST: usize = 32;
        self.depth += 1;
        if self.depth > DEEPEST {
            return Known::default();
        }
        let name = match self.tokens.first() {
            Some(token) if token.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                self.tokens = &self.tokens[1..];
                Some(*token)
            }
            _ => None,
        };
        let mut terms = Vec::new();
        let mut is_piped = false;
        while let Some(token) = self.tokens.first() {
            self.tokens = &self.tokens[1..];
            match *token {
                ")" => break,
                "(" => terms.push(self.pipeline()),
                "|" => is_piped = true,
                _ => terms.push(self.term(token)),
            }
        }
        self.depth -= 1;
        if is_piped { Known::default() } else { called(name, terms) }
    }

    /// Evaluates a literal or a value.
    fn term(&self, token: &str) -> Known {
        let known = |value| Known { value: Some(value), why: vec![] };
        if let Some(text) = text_of(token) {
            return known(Value::from(text));
        }
        if let Ok(number) = token.parse::<i64>() {
            return known(Value::from(number));
        }
        let Some(keys) = path_of(token).filter(|keys| !keys.is_empty()) else {
            return match token {
                "true" | "false" => known(Value::Bool(token == "true")),
                "nil" => known(Value::Null),
                _ => Known::default(),
            };
        };
        let path = keys.iter().fold(self.scope.clone(), |path, key| path.key(key));
        // As in helm, a value that is not set is nil and not an error.
        let value = path.find(self.effective).cloned().unwrap_or_default();
        let state = if value == Value::Bool(false) { "off" } else { "not set" };
        Known { why: vec![format!("{path} is {state}")], value: Some(value) }
    }
}

/// Applies a template function to its arguments. `None` as name is an expression in parentheses
/// without a function.
fn called(name: Option<&str>, mut terms: Vec<Known>) -> Known {
    let truths: Vec<Option<bool>> = terms.iter().map(|t| t.value.as_ref().map(is_true)).collect();
    let of = |value: bool, why: Vec<String>| Known { value: Some(Value::Bool(value)), why };
    match (name, terms.as_slice()) {
        (None | Some("int" | "int64" | "toString"), [_]) => terms.remove(0),
        // A literal in the place of a function name.
        (Some("true"), []) => of(true, vec![]),
        // One false argument decides, even if others are unknown.
        (Some("and"), _) if truths.contains(&Some(false)) => {
            let off = terms.into_iter().zip(&truths).filter(|(_, truth)| **truth == Some(false));
            of(false, off.flat_map(|(term, _)| term.why).collect())
        }
        (Some("and"), _) if truths.iter().all(Option::is_some) => of(true, vec![]),
        (Some("or"), _) if truths.contains(&Some(true)) => of(true, vec![]),
        (Some("or"), _) if truths.iter().all(Option::is_some) => {
            of(false, terms.into_iter().flat_map(|term| term.why).collect())
        }
        (Some("not" | "empty"), [one]) => match truths[0] {
            Some(true) => of(false, one.why.iter().map(|why| turned(why, "on")).collect()),
            Some(false) => of(true, vec![]),
            None => Known::default(),
        },
        (Some("eq" | "ne"), [a, b]) => {
            let (Some(left), Some(right)) = (&a.value, &b.value) else { return Known::default() };
            let is_same = left == right;
            let label = a.why.first().or(b.why.first());
            let other = if a.why.is_empty() { left } else { right };
            if is_same == (name == Some("eq")) {
                return of(true, vec![]);
            }
            let state = if is_same { shown(other) } else { format!("not {}", shown(other)) };
            of(false, label.into_iter().map(|why| turned(why, &state)).collect())
        }
        _ => Known::default(),
    }
}

/// Replaces the state in a reason: `a.b is off` becomes `a.b is on`.
fn turned(why: &str, state: &str) -> String {
    let path = why.rsplit_once(" is ").map_or(why, |(path, _)| path);
    let path = path.strip_suffix(" is not").unwrap_or(path);
    format!("{path} is {state}")
}

/// A value as people write it: strings without quotes.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether Go's templates take the value for true (text/template: empty values are false).
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is_true) => *is_true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_says_why_it_does_not_hold() {
        let values = json!({"sub": {"a": {"enabled": false}, "b": true, "kind": "x", "list": []}});
        for (expression, why) in [
            (".Values.a.enabled", "sub.a.enabled is off"),
            ("$root.Values.list", "sub.list is not set"),
            ("and .Values.b .Values.a.enabled", "sub.a.enabled is off"),
            ("or .Values.b .Values.a.enabled", "holds"),
            ("or .Values.none .Values.a.enabled", "sub.none is not set, sub.a.enabled is off"),
            ("not .Values.b", "sub.b is on"),
            ("eq .Values.kind \"y\"", "sub.kind is not y"),
            ("ne .Values.kind \"x\"", "sub.kind is x"),
            ("and (eq .Values.kind \"x\") (not .Values.b)", "sub.b is on"),
            ("and $pool.enabled (hasKey $pool \"x\")", "unknown"),
            ("and $pool.enabled .Values.a.enabled", "sub.a.enabled is off"),
            (".Values.a.enabled | default true", "unknown"),
            ("((((", "unknown"),
            ("(((((((((((((((((((((((((((((((((((((((((((((((((((((((((((.Values.b", "unknown"),
        ] {
            let found = match answer(expression, &values, &Path::default().key("sub")) {
                Answer::Holds => "holds".to_owned(),
                Answer::Not(why) => why.join(", "),
                Answer::Unknown => "unknown".to_owned(),
            };
            assert_eq!(found, why, "{expression}");
        }
    }

    #[test]
    fn the_values_in_an_expression_are_named() {
        let found = values_in(
            "include \"x\" (dict \"a\" $.Values.a.b \"c\" (index .Values \"d-e\" \"f\")) .Values",
        );
        assert_eq!(found, [vec!["a", "b"], vec!["d-e", "f"], vec![]]);
    }
}
