//! The sets that tests use, made once and kept or made in a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use types::Reference;

use super::image_set::TestImages;
use super::{build, cluster, recipes};

impl TestImages {
    /// The small set (under 40 MB, eight images of three hosts), made once and kept: what tests
    /// that run often and the demo use.
    pub fn fast() -> Self {
        build::build_cached(&recipes::fast_recipe())
    }

    /// The large set (about 1 GB, ten images of three hosts), made once and kept: for the slow
    /// suite and the benchmark.
    pub fn slow() -> Self {
        build::build_cached(&recipes::slow_recipe())
    }

    /// The images of the cluster tests, made once and kept: servers that really answer
    /// (llama.cpp, embeddings, Ollama, PostgreSQL, Redis) and a busybox. Their names are in
    /// [`crate::workloads`]. Compiles two of them, which takes five minutes of one core.
    pub fn cluster() -> Self {
        build::build_cached(&cluster::cluster_recipe())
    }

    /// Tiny but real images under any names, made in a moment and kept nowhere: for charts, whose
    /// images are many and not ours to ship. Each has a digest of its own, about every
    /// third is for linux/amd64 and linux/arm64, the others for linux/amd64. `redis` is
    /// `docker.io/library/redis:latest`, as docker has it; a name given twice is one image.
    ///
    /// # Panics
    /// When a name is none, or has a digest: no stand-in can have the digest of another image. Let
    /// the values of the test take the digest away (`image.digest: ""`) or set the stand-in's
    /// own ([`TestImages::get`]). And when two hosts have one repository and tag: one registry stands
    /// for all hosts (see [`TestImages::place_in_storage`]).
    pub fn stand_ins<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Self {
        let references: BTreeSet<String> =
            names.into_iter().map(|name| parse_stand_in_name(name.as_ref()).to_string()).collect();
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        build::build_set(
            &recipes::stand_in_recipe(references.into_iter().collect()),
            folder.path(),
        );
        let set = Self::read_set(folder.path()).expect("a set that was just made can be read");
        let set = Self { _temporary: Some(Arc::new(folder)), ..set };
        let mut taken = BTreeMap::new();
        for image in &set.images {
            if let Some(other) = taken.insert((image.repository(), image.tag()), &image.reference) {
                panic!("{other} and {} are one in a registry for all hosts", image.reference);
            }
        }
        set
    }
}

/// What a stand-in is made for.
fn parse_stand_in_name(name: &str) -> Reference {
    let reference: Reference =
        name.parse().unwrap_or_else(|error| panic!("no stand-in can be made for {name}: {error}"));
    assert!(
        reference.digest().is_none(),
        "{name} has a digest, which no stand-in can have: let the test's values take it away"
    );
    reference
}
