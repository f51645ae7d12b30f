//! The list of images that may start, as CEL maps from the path of a repository to its tags and
//! digests. A map costs one lookup, however long it is.
//!
//! The list is part of the policy, not in a ConfigMap that the policy reads (`paramRef`), for three
//! reasons: rule and list change at the same moment; a right to write ConfigMaps is not enough to
//! extend the list; and the API server does not lose it. (Its watch of ConfigMaps ends with the
//! last binding that reads one and never starts again, so a policy that is applied a second time
//! would use the first list, or none. Seen with Kubernetes 1.34; `apiserver`, `policy_source.go`,
//! `ensureParamsForPolicyLocked`.)

use crate::{AllowedImages, Error, Result};

/// The most characters of one map. CEL's parser rejects expressions of more than 100,000 (cel-go,
/// `parser/options.go`), so a long list is split into several maps.
const LONGEST: usize = 64_000;
/// The largest list in bytes. etcd rejects objects of more than 1.5 MiB; the rest of the policy
/// needs some of it.
const MOST: usize = 1 << 20;

/// Writes the maps as CEL literals, each repository on a line of its own.
pub(super) fn build_locked_maps(allowed: &AllowedImages) -> Result<Vec<String>> {
    let mut maps = vec![CelMap::default()];
    for (path, versions) in &allowed.images {
        let mut line = String::new();
        for version in versions {
            let length = path.len() + line.len() + version.len();
            let is_full = |map: &CelMap| map.bytes + length > LONGEST;
            // The versions of one repository may need several maps as well; the rule looks into
            // all.
            if maps.last().is_some_and(is_full) {
                push_repository(&mut maps, path, &line);
                line.clear();
                maps.push(CelMap::default());
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(version);
        }
        push_repository(&mut maps, path, &line);
    }
    let bytes = maps.iter().map(|map| map.bytes).sum();
    if bytes > MOST {
        return Err(Error::LongList { images: allowed.len(), bytes, most: MOST });
    }
    Ok(maps.into_iter().map(|map| format!("{{\n  {}\n}}", map.lines.join(",\n  "))).collect())
}

/// One map being written.
#[derive(Default)]
struct CelMap {
    /// `"path": "versions"`
    lines: Vec<String>,
    bytes: usize,
}

/// Adds a repository to the last map.
fn push_repository(maps: &mut [CelMap], path: &str, versions: &str) {
    if let Some(map) = maps.last_mut().filter(|_| !versions.is_empty()) {
        let line = format!("\"{path}\": \"{versions}\"");
        map.bytes += line.len() + ",\n  ".len();
        map.lines.push(line);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::AdmittedVersions;

    fn long_allowed_images(paths: usize, tags: usize) -> AllowedImages {
        let tags: std::collections::BTreeSet<String> =
            (0..tags).map(|tag| format!("v{tag}-{}", "x".repeat(90))).collect();
        let images = (0..paths).map(|path| (format!("org/app-{path}"), tags.clone())).collect();
        AllowedImages { site: "site:5000/".into(), admit: AdmittedVersions::Digests, images }
    }

    #[test]
    fn a_long_list_is_several_maps_with_nothing_lost() {
        for (paths, tags) in [(1, 1), (5000, 1), (1, 5000), (70, 70)] {
            let maps = build_locked_maps(&long_allowed_images(paths, tags)).unwrap();
            assert!(maps.iter().all(|map| map.len() < 100_000));
            let all = maps.concat();
            assert_eq!(all.matches("-xxx").count(), paths * tags);
        }
    }

    #[test]
    fn a_list_that_no_api_server_takes_is_refused() {
        let error = build_locked_maps(&long_allowed_images(10_000, 2)).unwrap_err().to_string();
        assert!(error.contains("10000 repositories"), "{error}");
    }
}
