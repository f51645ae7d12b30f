//! Merge keys (`<<`) as go-yaml 2 reads them, the parser of helm and kubectl.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A value in which each merge key is resolved where it stands: of a key and a merge that brings the
/// same one, the later counts, and so does the later of two merges. The YAML standard lets the key
/// count in any case. The library must hand merge keys out as ordinary keys.
///
/// ```yaml
/// a: &a {image: one}
/// b: {<<: *a, image: two}   # two
/// c: {image: two, <<: *a}   # one: helm and kubectl read it so
/// ```
pub(super) struct MergedValue(pub(super) Value);

impl<'de> Deserialize<'de> for MergedValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MergedValueVisitor).map(Self)
    }
}

/// Takes values as serde_json does, and merges.
struct MergedValueVisitor;

impl<'de> Visitor<'de> for MergedValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(MergedValue(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, MergedValue(value))) = entries.next_entry::<String, _>()? {
            if key != "<<" {
                map.insert(key, value);
                continue;
            }
            // Of several maps the first one counts, so it comes last.
            let merged = match value {
                Value::Array(list) => list.into_iter().rev().collect(),
                other => vec![other],
            };
            for one in merged {
                let Value::Object(one) = one else {
                    return Err(A::Error::custom(
                        "the value of << must be a map or a list of maps, such as *anchor",
                    ));
                };
                map.extend(one);
            }
        }
        Ok(Value::Object(map))
    }
}
