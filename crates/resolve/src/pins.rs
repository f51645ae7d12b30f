//! What the previous lock has pinned: an item that the input still requests in the same way stays
//! what it was, unless it is to be upgraded, or content of it from this machine is gone from the
//! store.

use std::collections::{HashMap, HashSet};

use store::{Source, Store};
use types::input::AttachedContent;
use types::lock::{self, Blob, BlobOrigin, Lock};
use types::{GitId, ModelId, Platform, Reference};

/// What is resolved again although it is pinned (`--upgrade`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpgradeSelection {
    /// Nothing: all pins are kept.
    Nothing,
    /// Everything: no pin is kept.
    All,
    /// The items of these names: a reference with or without its tag, a chart, a release, a model.
    Named(Vec<String>),
}

/// The pins of the previous lock, as far as they are kept.
pub(crate) struct LockPins<'a> {
    previous: Option<&'a Lock>,
    upgrade: &'a UpgradeSelection,
    store: &'a Store,
    images: HashMap<&'a Reference, &'a lock::LockedImage>,
    /// The charts by their source and name in it: one may be locked in several versions and releases.
    charts: HashMap<(&'a str, Option<&'a str>), Vec<&'a lock::LockedChart>>,
    /// The blobs of each root that came from local sources.
    local: HashMap<&'a Reference, Vec<Blob>>,
}

impl<'a> LockPins<'a> {
    pub(crate) fn new(
        previous: Option<&'a Lock>,
        upgrade: &'a UpgradeSelection,
        store: &'a Store,
    ) -> Self {
        let mut pins = Self {
            previous,
            upgrade,
            store,
            images: HashMap::new(),
            charts: HashMap::new(),
            local: HashMap::new(),
        };
        let Some(previous) = previous else { return pins };
        pins.images = previous.images.iter().map(|image| (&image.reference, image)).collect();
        for chart in &previous.charts {
            let key = (chart.chart.as_str(), chart.name.as_deref());
            pins.charts.entry(key).or_default().push(chart);
        }
        for content in previous.blobs() {
            if content.origin == BlobOrigin::Local {
                pins.local.entry(content.owner).or_default().push(content.blob);
            }
        }
        pins
    }

    /// The names to upgrade that nothing in the previous lock has.
    pub(crate) fn find_unknown_names(&self) -> Vec<&'a str> {
        let UpgradeSelection::Named(names) = self.upgrade else { return Vec::new() };
        // Without a previous lock everything is resolved again anyway.
        let Some(previous) = self.previous else { return Vec::new() };
        let all: HashSet<String> = previous
            .charts
            .iter()
            .map(chart_names)
            .chain(previous.images.iter().map(|image| reference_names(&image.reference)))
            .chain(previous.manifests.iter().map(|set| vec![set.release.clone()]))
            .chain(previous.models.iter().map(model_names))
            .chain(previous.files.iter().map(|file| vec![file.file.clone()]))
            .flatten()
            .collect();
        names.iter().map(String::as_str).filter(|name| !all.contains(*name)).collect()
    }

    /// The pinned chart that the input requests in the same way: chart, name and version.
    pub(crate) fn pinned_chart(
        &self,
        chart: &str,
        name: Option<&str>,
        requested: Option<&str>,
    ) -> Option<&'a lock::LockedChart> {
        self.charts.get(&(chart, name))?.iter().copied().find(|pinned| {
            pinned.requested.as_deref() == requested
                && self.is_kept(&chart_names(pinned))
                && self.is_local_content_stored(&pinned.reference)
                && pinned.manifest.layers.iter().all(|blob| self.is_stored(*blob))
        })
    }

    /// The pinned image. An image from a local source is never pinned: an archive of the same name
    /// may hold another image by now.
    pub(crate) fn pinned_image(
        &self,
        reference: &Reference,
        platforms: &[Platform],
        attached: AttachedContent,
    ) -> Option<&'a lock::LockedImage> {
        self.images.get(reference).copied().filter(|pinned| {
            pinned.platforms == platforms
                && pinned.attached_content == attached
                && pinned.from.is_none()
                && self.is_kept(&reference_names(reference))
        })
    }

    /// The pinned model that `is_it` accepts, if its content from this machine is in the store.
    pub(crate) fn pinned_model(
        &self,
        is_it: impl Fn(&lock::LockedModel) -> bool,
    ) -> Option<&'a lock::LockedModel> {
        self.previous?.models.iter().find(|pinned| {
            is_it(pinned)
                && self.is_kept(&model_names(pinned))
                && self.is_local_content_stored(pinned.reference())
        })
    }

    /// The files outside of LFS that the previous lock knows, by their git id. The Hub lists only
    /// the git id of such a file, so its sha256 was found by reading it; this saves reading it
    /// again.
    pub(crate) fn pinned_small_files(&self, id: &ModelId) -> HashMap<GitId, Blob> {
        let models = self.previous.into_iter().flat_map(|previous| &previous.models);
        models
            .filter_map(|model| match model {
                lock::LockedModel::Hub(model) if model.hf == *id => Some(&model.files),
                _ => None,
            })
            .flatten()
            .filter(|file| !file.lfs)
            .map(|file| (file.git.clone(), Blob { digest: file.digest, size: file.size }))
            .collect()
    }

    /// Whether all content of a root that came from local sources is in the store.
    fn is_local_content_stored(&self, owner: &Reference) -> bool {
        self.local.get(owner).is_none_or(|blobs| blobs.iter().all(|blob| self.is_stored(*blob)))
    }

    fn is_stored(&self, blob: Blob) -> bool {
        self.store.blob_size(&blob.digest).is_ok_and(|size| size == Some(blob.size))
    }

    fn is_kept(&self, names: &[String]) -> bool {
        match self.upgrade {
            UpgradeSelection::Nothing => true,
            UpgradeSelection::All => false,
            UpgradeSelection::Named(wanted) => !names.iter().any(|name| wanted.contains(name)),
        }
    }
}

fn reference_names(reference: &Reference) -> Vec<String> {
    let mut names = vec![reference.to_string(), reference.name()];
    // Images of Docker Hub also have the short name that people write: `nginx:1.25`.
    if reference.registry() == "docker.io" {
        let short = reference.repository().trim_start_matches("library/").to_owned();
        if let Some(tag) = reference.tag() {
            names.push(format!("{short}:{tag}"));
        }
        names.push(short);
    }
    names
}

fn chart_names(chart: &lock::LockedChart) -> Vec<String> {
    let mut names = reference_names(&chart.reference);
    names.extend([chart.chart.clone(), chart.release.clone()]);
    names.extend(chart.name.clone());
    names
}

fn model_names(model: &lock::LockedModel) -> Vec<String> {
    let mut names = reference_names(model.reference());
    names.push(match model {
        lock::LockedModel::Hub(model) => model.hf.to_string(),
        lock::LockedModel::Ollama(model) => model.ollama.clone(),
        lock::LockedModel::Url(model) => model.url.clone(),
    });
    names
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use store::hash::sha256;
    use types::{Digest, media_type};

    use super::*;

    fn make_blob(bytes: &[u8]) -> Blob {
        Blob { digest: sha256(bytes), size: bytes.len() as u64 }
    }

    fn make_manifest(layer: Blob) -> lock::LockedManifest {
        lock::LockedManifest {
            digest: Digest::Sha256([1; 32]),
            size: 1,
            media_type: media_type::OCI_MANIFEST.into(),
            platform: None,
            config: None,
            layers: vec![layer],
            layer_urls: std::collections::BTreeMap::new(),
        }
    }

    fn make_chart(source: &str) -> lock::LockedChart {
        lock::LockedChart {
            chart: source.into(),
            name: None,
            requested: Some("1.x".into()),
            version: "1.2.3".into(),
            release: "shop".into(),
            namespace: None,
            from: None,
            reference: "ghcr.io/org/charts/app:1.2.3".parse().unwrap(),
            manifest: make_manifest(make_blob(b"chart")),
        }
    }

    fn make_image(reference: &str, from: Option<lock::ImageOrigin>) -> lock::LockedImage {
        lock::LockedImage {
            reference: reference.parse().unwrap(),
            digest: Digest::Sha256([2; 32]),
            media_type: media_type::OCI_MANIFEST.into(),
            size: 1,
            platforms: vec![Platform::linux_amd64()],
            from,
            indexes: vec![],
            manifests: vec![],
            attached: vec![],
            attached_content: types::input::AttachedContent::Carried,
            seen: vec![],
        }
    }

    fn make_model(from: Option<lock::ModelOrigin>) -> lock::LockedModel {
        let file = |path: &str, lfs| lock::LockedModelFile {
            path: path.into(),
            size: 7,
            digest: sha256(path.as_bytes()),
            git: sha256(path.as_bytes()).hex()[..40].parse().unwrap(),
            lfs,
        };
        lock::LockedModel::Hub(lock::LockedHubModel {
            hf: "BAAI/bge-m3".parse().unwrap(),
            revision: "main".into(),
            commit: "ab".repeat(20).parse().unwrap(),
            include: vec![],
            exclude: vec![],
            from,
            reference: format!("huggingface.co/baai/bge-m3:{}", "ab".repeat(20)).parse().unwrap(),
            manifest: make_blob(b"manifest"),
            config: make_blob(b"config"),
            files: vec![file("config.json", false), file("model.safetensors", true)],
        })
    }

    fn make_lock() -> Lock {
        Lock {
            version: lock::VERSION,
            name: "site".into(),
            platforms: vec![Platform::linux_amd64()],
            requests: vec![],
            charts: vec![make_chart("oci://ghcr.io/org/charts/app")],
            manifests: vec![],
            images: vec![
                make_image("nginx:1.25", None),
                make_image("own:1", Some(lock::ImageOrigin::Archive("own.tar".into()))),
            ],
            models: vec![make_model(None)],
            files: vec![],
        }
    }

    fn make_store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        (folder, store)
    }

    fn name(names: &[&str]) -> UpgradeSelection {
        UpgradeSelection::Named(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn an_image_stays_pinned_unless_it_comes_from_this_machine_or_for_other_platforms() {
        let (lock, (_folder, store)) = (make_lock(), make_store());
        let pins = LockPins::new(Some(&lock), &UpgradeSelection::Nothing, &store);
        let amd64 = [Platform::linux_amd64()];
        let nginx = "docker.io/library/nginx:1.25".parse().unwrap();
        assert_eq!(
            pins.pinned_image(&nginx, &amd64, AttachedContent::Carried),
            Some(&lock.images[0])
        );
        assert_eq!(pins.pinned_image(&nginx, &[], AttachedContent::Carried), None);
        // Whether it has signatures is not known of an image that was locked without them.
        assert_eq!(pins.pinned_image(&nginx, &amd64, AttachedContent::LeftOut), None);
        assert_eq!(
            pins.pinned_image(&"own:1".parse().unwrap(), &amd64, AttachedContent::Carried),
            None
        );
        assert_eq!(
            pins.pinned_image(&"nginx:1.26".parse().unwrap(), &amd64, AttachedContent::Carried),
            None
        );
        let nothing = LockPins::new(None, &UpgradeSelection::Nothing, &store);
        assert_eq!(nothing.pinned_image(&nginx, &amd64, AttachedContent::Carried), None);
    }

    #[test]
    fn an_image_of_docker_hub_is_upgraded_by_each_of_its_names() {
        let (lock, (_folder, store)) = (make_lock(), make_store());
        let nginx: Reference = "nginx:1.25".parse().unwrap();
        let is_pinned = |upgrade: &UpgradeSelection| {
            let pins = LockPins::new(Some(&lock), upgrade, &store);
            assert_eq!(pins.find_unknown_names(), [""; 0], "{upgrade:?}");
            pins.pinned_image(&nginx, &[Platform::linux_amd64()], AttachedContent::Carried)
                .is_some()
        };
        for own in
            ["nginx", "nginx:1.25", "docker.io/library/nginx", "docker.io/library/nginx:1.25"]
        {
            assert!(!is_pinned(&name(&[own])), "{own}");
        }
        assert!(is_pinned(&name(&["own:1", "shop", "BAAI/bge-m3"])));
        assert!(!is_pinned(&UpgradeSelection::All));
    }

    #[test]
    fn a_chart_is_pinned_only_while_its_archive_is_in_the_store() {
        let (lock, (_folder, store)) = (make_lock(), make_store());
        let pins = LockPins::new(Some(&lock), &UpgradeSelection::Nothing, &store);
        let pinned = |requested| {
            pins.pinned_chart("oci://ghcr.io/org/charts/app", None, requested).is_some()
        };
        // Gone from the store: nothing could be rendered.
        assert!(!pinned(Some("1.x")));
        store.put_bytes(b"chart").unwrap();
        assert!(pinned(Some("1.x")));
        assert!(!pinned(Some("2.x")) && !pinned(None));
        assert!(
            pins.pinned_chart("oci://ghcr.io/org/charts/app", Some("app"), Some("1.x")).is_none()
        );
    }

    #[test]
    fn a_chart_is_upgraded_by_its_source_its_release_or_its_reference() {
        let (lock, (_folder, store)) = (make_lock(), make_store());
        store.put_bytes(b"chart").unwrap();
        for own in [
            "oci://ghcr.io/org/charts/app",
            "shop",
            "ghcr.io/org/charts/app",
            "ghcr.io/org/charts/app:1.2.3",
        ] {
            let upgrade = name(&[own]);
            let pins = LockPins::new(Some(&lock), &upgrade, &store);
            let pinned = pins.pinned_chart("oci://ghcr.io/org/charts/app", None, Some("1.x"));
            assert_eq!((pinned, pins.find_unknown_names()), (None, vec![]), "{own}");
        }
    }

    #[test]
    fn a_model_from_this_machine_is_pinned_only_while_the_store_has_all_of_it() {
        let (_folder, store) = make_store();
        let mut lock = make_lock();
        let is_pinned = |lock: &Lock| {
            let pins = LockPins::new(Some(lock), &UpgradeSelection::Nothing, &store);
            pins.pinned_model(|_| true).is_some()
        };
        // The documents of a model are made here, and not to be had from the Hub.
        assert!(!is_pinned(&lock));
        store.put_bytes(b"manifest").unwrap();
        store.put_bytes(b"config").unwrap();
        assert!(is_pinned(&lock));
        lock.models = vec![make_model(Some(lock::ModelOrigin::Folder("./own".into())))];
        assert!(!is_pinned(&lock));
    }

    #[test]
    fn small_files_are_known_by_their_git_id_and_those_in_lfs_are_not() {
        let (lock, (_folder, store)) = (make_lock(), make_store());
        let pins = LockPins::new(Some(&lock), &UpgradeSelection::All, &store);
        let known = pins.pinned_small_files(&"BAAI/bge-m3".parse().unwrap());
        let git: GitId = sha256(b"config.json").hex()[..40].parse().unwrap();
        let blob = Blob { digest: sha256(b"config.json"), size: 7 };
        assert_eq!(known, HashMap::from([(git, blob)]));
        assert!(pins.pinned_small_files(&"o/other".parse().unwrap()).is_empty());
    }

    #[test]
    fn names_that_nothing_has_are_found_where_there_is_a_lock_to_look_in() {
        let (lock, (_folder, store)) = (make_lock(), make_store());
        let upgrade = name(&["nginx", "ngin", "bge-m3"]);
        let unknown = LockPins::new(Some(&lock), &upgrade, &store).find_unknown_names();
        assert_eq!(unknown, ["ngin", "bge-m3"]);
        assert_eq!(LockPins::new(None, &upgrade, &store).find_unknown_names(), [""; 0]);
    }
}
