//! Evaluates conditions of templates (`if and .Values.a.enabled (eq .Values.b "x")`) with the
//! chart's values, to explain to people why something was not rendered. A small subset of Go
//! templates: variables, pipes and unknown functions make the result unknown, never wrong.

use serde_json::Value;

use crate::path::DocumentPath;

/// What is known about the value of an expression.
#[derive(Debug, Clone, Default)]
struct ExpressionValue {
    /// Its value; `None` if it is unknown.
    value: Option<Value>,
    /// The reasons why it is false, for people: `a.enabled is off`.
    why: Vec<String>,
}

/// Whether a condition is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ConditionTruth {
    /// It is true.
    Holds,
    /// It is false, for these reasons.
    Fails(Vec<String>),
    /// The values alone do not decide it.
    Unknown,
}

/// Evaluates a condition. `scope` is the path of the values that `.Values` refers to in its chart.
pub(super) fn evaluate_condition(
    expression: &str,
    effective: &Value,
    scope: &DocumentPath,
) -> ConditionTruth {
    let tokens = split_tokens(expression);
    let mut reader = ConditionEvaluator { tokens: &tokens, effective, scope, depth: 0 };
    match reader.evaluate_pipeline() {
        ExpressionValue { value: Some(value), .. } if is_truthy(&value) => ConditionTruth::Holds,
        ExpressionValue { value: Some(_), why } if !why.is_empty() => ConditionTruth::Fails(why),
        _ => ConditionTruth::Unknown,
    }
}

/// Finds the paths of the values that an expression names: `.Values.a.b`, `index .Values "a" "b"`.
/// An empty path means all values, or a key that is computed by the template.
pub(super) fn find_value_paths(expression: &str) -> Vec<Vec<String>> {
    let tokens = split_tokens(expression);
    let mut paths = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let Some(mut path) = parse_value_path(token) else { continue };
        if path.is_empty() && index > 0 && tokens[index - 1] == "index" {
            let keys = tokens[index + 1..].iter().map_while(|token| parse_string_literal(token));
            path = keys.map(str::to_owned).collect();
        }
        paths.push(path);
    }
    paths
}

/// Parses the keys after `.Values`, `$.Values` or `$root.Values`; `None` for any other token.
fn parse_value_path(token: &str) -> Option<Vec<String>> {
    let (before, behind) = token.split_once(".Values")?;
    let is_root = before.is_empty() || before.starts_with('$') && !before.contains('"');
    if !is_root || !(behind.is_empty() || behind.starts_with('.')) {
        return None;
    }
    Some(behind.split('.').filter(|key| !key.is_empty()).map(str::to_owned).collect())
}

/// The content of a string literal.
fn parse_string_literal(token: &str) -> Option<&str> {
    token.strip_prefix('"')?.strip_suffix('"')
}

/// Splits an expression into words, string literals, parentheses and pipes.
fn split_tokens(expression: &str) -> Vec<&str> {
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
struct ConditionEvaluator<'a> {
    /// The tokens that are not consumed yet.
    tokens: &'a [&'a str],
    effective: &'a Value,
    scope: &'a DocumentPath,
    /// How many parentheses are open.
    depth: usize,
}

impl ConditionEvaluator<'_> {
    /// Evaluates up to the closing parenthesis or the end. An expression with a pipe is unknown:
    /// the functions that are used there (`default`, `quote`) are too many to reproduce.
    fn evaluate_pipeline(&mut self) -> ExpressionValue {
        // Keeps a crafted template from exhausting the stack.
        const DEEPEST: usize = 32;
        self.depth += 1;
        if self.depth > DEEPEST {
            return ExpressionValue::default();
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
                "(" => terms.push(self.evaluate_pipeline()),
                "|" => is_piped = true,
                _ => terms.push(self.evaluate_term(token)),
            }
        }
        self.depth -= 1;
        if is_piped { ExpressionValue::default() } else { apply_function(name, terms) }
    }

    /// Evaluates a literal or a value.
    fn evaluate_term(&self, token: &str) -> ExpressionValue {
        let known = |value| ExpressionValue { value: Some(value), why: vec![] };
        if let Some(text) = parse_string_literal(token) {
            return known(Value::from(text));
        }
        if let Ok(number) = token.parse::<i64>() {
            return known(Value::from(number));
        }
        let Some(keys) = parse_value_path(token).filter(|keys| !keys.is_empty()) else {
            return match token {
                "true" | "false" => known(Value::Bool(token == "true")),
                "nil" => known(Value::Null),
                _ => ExpressionValue::default(),
            };
        };
        let path = keys.iter().fold(self.scope.clone(), |path, key| path.key(key));
        // As in helm, a value that is not set is nil and not an error.
        let value = path.find_value(self.effective).cloned().unwrap_or_default();
        let state = if value == Value::Bool(false) { "off" } else { "not set" };
        ExpressionValue { why: vec![format!("{path} is {state}")], value: Some(value) }
    }
}

/// Applies a template function to its arguments. `None` as name is an expression in parentheses
/// without a function.
fn apply_function(name: Option<&str>, mut terms: Vec<ExpressionValue>) -> ExpressionValue {
    let truths: Vec<Option<bool>> = terms.iter().map(|t| t.value.as_ref().map(is_truthy)).collect();
    let of =
        |value: bool, why: Vec<String>| ExpressionValue { value: Some(Value::Bool(value)), why };
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
            Some(true) => of(false, one.why.iter().map(|why| replace_state(why, "on")).collect()),
            Some(false) => of(true, vec![]),
            None => ExpressionValue::default(),
        },
        (Some("eq" | "ne"), [a, b]) => {
            let (Some(left), Some(right)) = (&a.value, &b.value) else {
                return ExpressionValue::default();
            };
            let is_same = left == right;
            let label = a.why.first().or(b.why.first());
            let other = if a.why.is_empty() { left } else { right };
            if is_same == (name == Some("eq")) {
                return of(true, vec![]);
            }
            let state =
                if is_same { format_value(other) } else { format!("not {}", format_value(other)) };
            of(false, label.into_iter().map(|why| replace_state(why, &state)).collect())
        }
        _ => ExpressionValue::default(),
    }
}

/// Replaces the state in a reason: `a.b is off` becomes `a.b is on`.
fn replace_state(why: &str, state: &str) -> String {
    let path = why.rsplit_once(" is ").map_or(why, |(path, _)| path);
    let path = path.strip_suffix(" is not").unwrap_or(path);
    format!("{path} is {state}")
}

/// A value as people write it: strings without quotes.
fn format_value(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether Go's templates take the value for true (text/template: empty values are false).
fn is_truthy(value: &Value) -> bool {
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
            let found = match evaluate_condition(
                expression,
                &values,
                &DocumentPath::default().key("sub"),
            ) {
                ConditionTruth::Holds => "holds".to_owned(),
                ConditionTruth::Fails(why) => why.join(", "),
                ConditionTruth::Unknown => "unknown".to_owned(),
            };
            assert_eq!(found, why, "{expression}");
        }
    }

    #[test]
    fn the_values_in_an_expression_are_named() {
        let found = find_value_paths(
            "include \"x\" (dict \"a\" $.Values.a.b \"c\" (index .Values \"d-e\" \"f\")) .Values",
        );
        assert_eq!(found, [vec!["a", "b"], vec!["d-e", "f"], vec![]]);
    }
}
