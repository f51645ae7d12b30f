//! Checks values against the JSON schemas that Gantry publishes. Only the keywords of draft 7 that
//! those have; any other is an error, so that none is passed over. (The crates for all of JSON schema
//! change the features of crates below Gantry, which would compile everything twice.)

use regex::Regex;
use serde_json::{Map, Value};

/// Keywords that describe and do not restrict.
const DESCRIPTIONS: &[&str] =
    &["$schema", "definitions", "default", "description", "examples", "format", "title"];

/// What is wrong with a value by a schema, each with the value's place; empty if nothing is.
pub fn find_schema_errors(schema: &Value, value: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    SchemaChecker { root: schema }.check(schema, value, "", &mut errors);
    errors
}

struct SchemaChecker<'a> {
    root: &'a Value,
}

impl SchemaChecker<'_> {
    fn check(&self, schema: &Value, value: &Value, place: &str, errors: &mut Vec<String>) {
        let keywords = match schema {
            Value::Object(keywords) => keywords,
            Value::Bool(true) => return,
            _ => return errors.push(format!("{place}: nothing is allowed here")),
        };
        for (keyword, rule) in keywords {
            self.check_keyword((keyword, rule), keywords, value, place, errors);
        }
    }

    fn check_keyword(
        &self,
        (keyword, rule): (&str, &Value),
        keywords: &Map<String, Value>,
        value: &Value,
        place: &str,
        errors: &mut Vec<String>,
    ) {
        let mut fail = |message: String| errors.push(format!("{place}: {message}"));
        match keyword {
            "$ref" => {
                let target = rule.as_str().and_then(|target| target.strip_prefix('#'));
                match target.and_then(|target| self.root.pointer(target)) {
                    Some(target) => self.check(target, value, place, errors),
                    None => fail(format!("{rule} is not in the schema")),
                }
            }
            "type" => {
                let is_listed = match rule {
                    Value::Array(kinds) => kinds.iter().any(|kind| is_of_type(kind, value)),
                    kind => is_of_type(kind, value),
                };
                if !is_listed {
                    fail(format!("{value} is not of type {rule}"));
                }
            }
            "enum" => {
                if !rule.as_array().is_some_and(|allowed| allowed.contains(value)) {
                    fail(format!("{value} is none of {rule}"));
                }
            }
            "const" if rule != value => fail(format!("{value} is not {rule}")),
            "const" => {}
            "pattern" => {
                let pattern = rule.as_str().and_then(|pattern| Regex::new(pattern).ok());
                let text = value.as_str().unwrap_or_default();
                if value.is_string() && !pattern.is_some_and(|pattern| pattern.is_match(text)) {
                    fail(format!("{value} does not match {rule}"));
                }
            }
            "minimum" if value.as_f64() < rule.as_f64() && value.is_number() => {
                fail(format!("{value} is less than {rule}"));
            }
            "maximum" if value.as_f64() > rule.as_f64() && value.is_number() => {
                fail(format!("{value} is more than {rule}"));
            }
            "minimum" | "maximum" => {}
            "required" => {
                let names = rule.as_array().into_iter().flatten().filter_map(Value::as_str);
                let missing =
                    |name: &&str| value.as_object().is_some_and(|o| !o.contains_key(*name));
                names.filter(missing).for_each(|name| fail(format!("{name} is missing")));
            }
            "properties" => {
                for (key, own) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = rule.get(key) {
                        self.check(schema, own, &format!("{place}/{key}"), errors);
                    }
                }
            }
            "additionalProperties" => {
                let named = |key: &str| {
                    keywords.get("properties").is_some_and(|names| names.get(key).is_some())
                };
                for (key, own) in value.as_object().into_iter().flatten() {
                    if !named(key) {
                        self.check(rule, own, &format!("{place}/{key}"), errors);
                    }
                }
            }
            "items" => {
                for (index, own) in value.as_array().into_iter().flatten().enumerate() {
                    self.check(rule, own, &format!("{place}/{index}"), errors);
                }
            }
            "minItems" | "maxItems" | "uniqueItems" => {}
            "allOf" => {
                for part in rule.as_array().into_iter().flatten() {
                    self.check(part, value, place, errors);
                }
            }
            "anyOf" | "oneOf" => {
                let fitting = rule.as_array().into_iter().flatten().filter(|option| {
                    let mut own = Vec::new();
                    self.check(option, value, place, &mut own);
                    own.is_empty()
                });
                let count = fitting.count();
                if count == 0 || keyword == "oneOf" && count > 1 {
                    fail(format!("{value} fits {count} of the forms of {keyword}"));
                }
            }
            other if DESCRIPTIONS.contains(&other) => {}
            other => fail(format!("the keyword {other} of the schema is not known here")),
        }
    }
}

fn is_of_type(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap_or_default() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}
