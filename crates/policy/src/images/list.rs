//! The list of what may start, as the ConfigMap that the CEL rule reads: a key for each
//! repository, its tags and digests as the value. A policy that held the list itself would be
//! parsed with it; a map is looked up in one step, however long it is.

use serde_json::{Map, Value, json};

use super::Request;
use crate::{Error, Namespace, Result};

/// What stands for the `/` of a path, which a ConfigMap's key may not have. No path has it
/// (distribution/reference allows single dots only), so two paths never share a key.
pub(super) const SLASH: &str = "..";
/// The longest key (apimachinery, `validation.IsConfigMapKey`).
const LONGEST_KEY: usize = 253;
/// The most that a ConfigMap may hold (core/v1, `MaxSecretSize`).
const MOST_BYTES: usize = 1 << 20;

/// The namespace of the list, where it is Gantry's own, and the list.
pub(super) fn manifests(request: &Request) -> Result<Vec<Value>> {
    let mut data = Map::new();
    let mut bytes = 0;
    for (path, versions) in &request.allowed.images {
        let key = path.replace('/', SLASH);
        if key.len() > LONGEST_KEY {
            let image = format!("{}{path}", request.allowed.site);
            return Err(Error::LongName { image, length: key.len(), most: LONGEST_KEY });
        }
        let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
        let value = versions.join(" ");
        bytes += key.len() + value.len();
        data.insert(key, value.into());
    }
    if bytes > MOST_BYTES {
        return Err(Error::LongList { images: data.len(), bytes, most: MOST_BYTES });
    }
    let namespace = &request.list_namespace;
    let mut all = Vec::new();
    if *namespace == Namespace::own() {
        let metadata = json!({"name": namespace.as_str()});
        all.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
    }
    all.push(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": request.name, "namespace": namespace.as_str()},
        "data": data,
    }));
    Ok(all)
}
