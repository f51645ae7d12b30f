//! From a recipe to layouts: each different layer once, on all cores, the largest first; then the
//! documents. The finished set gets its name in one step, so that a killed build leaves nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use serde_json::{Value, json};
use types::{Descriptor, Reference, media_type};

use super::blobs::{TestBlobs, sha256_digest};
use super::companions::{self, plain_descriptor};
use super::debian::{DebianArchive, DebianPackage, packages_beyond};
use super::image_set::{TestImage, TestImages, TestManifest, cache_folder, folder_name};
use super::layer::{self, BuiltLayer, LayerPosition};
use super::recipes::{
    ImageCompanions, ImageRecipe as Wanted, ImageSetRecipe, LayerRecipe as Content, ManifestFormat,
    ModelWeights,
};
use super::{compiled, python};
use crate::tools;

/// Goes up when the same recipe gives other bytes than before, so that caches are made anew.
const GENERATION: u32 = 2;

/// All images say this time: no clock is in their bytes.
const CREATED: &str = "2024-01-01T00:00:00Z";

/// The set of a recipe: from the cache, or made now.
pub(crate) fn build_cached(recipe: &ImageSetRecipe) -> TestImages {
    let key = sha256_digest(format!("{GENERATION} {recipe:?}").as_bytes()).short_hex();
    let folder = cache_folder().join(format!("{}-{key}", recipe.name));
    if let Some(images) = TestImages::read_set(&folder) {
        return images;
    }
    fs::create_dir_all(cache_folder()).expect("a cache folder can be made");
    let lock = File::create(cache_folder().join(format!("{}.lock", recipe.name)))
        .expect("a lock can be made");
    lock.lock().expect("a lock can be waited for");
    // Another process may have made it while this one waited.
    if let Some(images) = TestImages::read_set(&folder) {
        return images;
    }
    let unfinished = cache_folder().join(format!("{}-{key}.unfinished", recipe.name));
    let _ = fs::remove_dir_all(&unfinished);
    build_set(recipe, &unfinished);
    let _ = fs::remove_dir_all(&folder);
    fs::rename(&unfinished, &folder).expect("a finished set can be named");
    TestImages::read_set(&folder).expect("a set that was just made can be read")
}

/// A layer is the same where all content below it is the same.
type LayerKey = (&'static str, Vec<Content>);

/// A layer to be made.
struct LayerTask {
    key: LayerKey,
    packages: Vec<DebianPackage>,
    /// Roughly how much work it is, in bytes.
    work: u64,
}

/// Makes a recipe's images in a folder that exists.
pub(crate) fn build_set(recipe: &ImageSetRecipe, folder: &Path) {
    let blobs = TestBlobs::new(folder);
    let tasks = list_tasks(recipe);
    let packages: HashMap<LayerKey, Vec<DebianPackage>> =
        tasks.iter().map(|task| (task.key.clone(), task.packages.clone())).collect();
    let layers = build_layers(&blobs, tasks);
    let images: Vec<TestImage> = recipe
        .images
        .iter()
        .map(|wanted| build_image(&blobs, wanted, &layers, &packages))
        .collect();
    for image in &images {
        write_layout(folder, image);
    }
    let text = serde_json::to_string_pretty(&images).expect("images are plain data");
    fs::write(folder.join("images.json"), text).expect("a set can be written");
}

/// All different layers, their packages downloaded, the largest first.
fn list_tasks(recipe: &ImageSetRecipe) -> Vec<LayerTask> {
    let mut tasks: HashMap<LayerKey, LayerTask> = HashMap::new();
    let mut debians: HashMap<&str, DebianArchive> = HashMap::new();
    for image in &recipe.images {
        for architecture in image.architectures {
            for height in 1..=image.layers.len() {
                let key = (*architecture, image.layers[..height].to_vec());
                if tasks.contains_key(&key) {
                    continue;
                }
                let task = match key.1.last() {
                    Some(Content::Packages(_) | Content::Lean { .. }) => {
                        let debian = debians
                            .entry(architecture)
                            .or_insert_with(|| DebianArchive::new(architecture));
                        packages_task(debian, key.clone(), &tasks)
                    }
                    content => LayerTask {
                        work: estimate_work(content),
                        key: key.clone(),
                        packages: Vec::new(),
                    },
                };
                tasks.insert(key, task);
            }
        }
    }
    for (architecture, debian) in &debians {
        let of = tasks.values().filter(|task| task.key.0 == *architecture);
        debian.download_packages(of.flat_map(|task| &task.packages));
    }
    let mut tasks: Vec<LayerTask> = tasks.into_values().collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(task.work));
    tasks
}

/// How much work a layer without packages is.
fn estimate_work(content: Option<&Content>) -> u64 {
    match content {
        Some(Content::HubCache(_)) => {
            tools::model_folder().join("model.safetensors").metadata().map_or(0, |file| file.len())
        }
        _ => 0,
    }
}

fn packages_task(
    debian: &DebianArchive,
    key: LayerKey,
    known: &HashMap<LayerKey, LayerTask>,
) -> LayerTask {
    let (architecture, content) = &key;
    let names: Vec<&str> = content
        .iter()
        .flat_map(|layer| match layer {
            Content::Packages(packages) | Content::Lean { packages, .. } => *packages,
            _ => &[],
        })
        .copied()
        .collect();
    let below: HashSet<String> = (1..content.len())
        .filter_map(|height| known.get(&(*architecture, content[..height].to_vec())))
        .flat_map(|task| task.packages.iter().map(|package| package.name.clone()))
        .collect();
    let mut packages = packages_beyond(debian.find_packages(&names), &below);
    if let Some(Content::Lean { without, .. }) = content.last() {
        packages.retain(|package| !without.contains(&package.name.as_str()));
    }
    let work = packages.iter().map(|package| package.size).sum();
    LayerTask { key, packages, work }
}

/// Makes the layers, one a core at a time.
fn build_layers(blobs: &TestBlobs, tasks: Vec<LayerTask>) -> HashMap<LayerKey, BuiltLayer> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let queue = Mutex::new(tasks.into_iter().enumerate());
    let done = Mutex::new(HashMap::new());
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no builder panics with the queue").next();
                    let Some((number, task)) = next else { return };
                    let layer = build_layer(blobs, &number.to_string(), &task);
                    done.lock().expect("no builder panics with the map").insert(task.key, layer);
                }
            });
        }
    });
    done.into_inner().expect("all builders have ended well")
}

fn build_layer(blobs: &TestBlobs, name: &str, task: &LayerTask) -> BuiltLayer {
    let place = if task.key.1.len() == 1 { LayerPosition::Base } else { LayerPosition::Above };
    match task.key.1.last() {
        Some(Content::HubCache(weights)) => {
            let folder = tools::model_folder();
            let files = layer::model_files(&folder, |file| {
                *weights == ModelWeights::With || file != Path::new("model.safetensors")
            });
            layer::build_hub_cache_layer(blobs, name, &folder, &files)
        }
        Some(Content::Text(text)) => layer::build_text_layer(blobs, name, text),
        Some(Content::Python(packages)) => layer::build_folder_layer(
            blobs,
            name,
            &python::install_packages(packages),
            python::PLACE,
        ),
        Some(Content::Built(program)) => {
            let (folder, place) = compiled::compile_program(*program);
            layer::build_folder_layer(blobs, name, &folder, place)
        }
        Some(Content::Files(files)) => layer::build_file_layer(blobs, name, files),
        _ => layer::build_package_layer(blobs, name, &task.packages, place),
    }
}

/// Writes an image's documents.
fn build_image(
    blobs: &TestBlobs,
    wanted: &Wanted,
    layers: &HashMap<LayerKey, BuiltLayer>,
    packages: &HashMap<LayerKey, Vec<DebianPackage>>,
) -> TestImage {
    let reference: Reference = wanted.reference.parse().expect("a recipe's references are valid");
    let mut documents = Vec::new();
    let mut needed: Vec<Descriptor> = Vec::new();
    let mut listed = Vec::new();
    for architecture in wanted.architectures {
        let stack: Vec<&BuiltLayer> = (1..=wanted.layers.len())
            .map(|height| &layers[&(*architecture, wanted.layers[..height].to_vec())])
            .collect();
        let (manifest, config) = write_manifest(blobs, wanted, architecture, &stack);
        needed.push(config);
        needed.extend(stack.iter().map(|layer| layer.blob.clone()));
        let mut entry = plain_descriptor(&manifest);
        entry["platform"] = json!({"architecture": architecture, "os": "linux"});
        listed.push(entry);
        documents.push(TestManifest::from_descriptor(&manifest, None));
    }
    if listed.len() > 1 {
        let index =
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": listed});
        let index = blobs.put_json(media_type::OCI_INDEX, &index);
        documents.insert(0, TestManifest::from_descriptor(&index, None));
    }
    documents[0].tag = reference.tag().map(String::from);
    let root = documents[0].clone();

    if wanted.companions == ImageCompanions::SignatureAndSbom {
        let subject = Descriptor::new(&root.media_type, root.digest, root.size);
        let all: Vec<DebianPackage> = (1..=wanted.layers.len())
            .filter_map(|height| {
                packages.get(&(wanted.architectures[0], wanted.layers[..height].to_vec()))
            })
            .flatten()
            .cloned()
            .collect();
        let (more, blobs) = companions::write_companions(blobs, &reference.name(), &subject, &all);
        documents.extend(more);
        needed.extend(blobs);
    }
    TestImage {
        digest: root.digest,
        platforms: wanted.architectures.iter().map(|name| format!("linux/{name}")).collect(),
        is_signed: wanted.companions == ImageCompanions::SignatureAndSbom,
        manifests: documents,
        blobs: needed.iter().map(|blob| (blob.digest, blob.size)).collect::<BTreeMap<_, _>>(),
        reference,
    }
}

fn write_manifest(
    blobs: &TestBlobs,
    wanted: &Wanted,
    architecture: &str,
    stack: &[&BuiltLayer],
) -> (Descriptor, Descriptor) {
    let (manifest_type, config_type, layer_type) = match wanted.format {
        ManifestFormat::Oci => {
            (media_type::OCI_MANIFEST, media_type::OCI_CONFIG, media_type::OCI_LAYER_GZIP)
        }
        ManifestFormat::Docker => (
            media_type::DOCKER_MANIFEST,
            media_type::DOCKER_CONFIG,
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
    };
    let history: Vec<Value> = wanted
        .layers
        .iter()
        .map(|layer| json!({"created": CREATED, "created_by": format!("testkit {layer:?}")}))
        .collect();
    let config = blobs.put_json(
        config_type,
        &json!({"architecture": architecture, "os": "linux", "created": CREATED,
            "config": image_config(wanted),
            "rootfs": {"type": "layers", "diff_ids": stack.iter().map(|layer| layer.diff_id).collect::<Vec<_>>()},
            "history": history}),
    );
    let layers: Vec<Value> = stack
        .iter()
        .map(|layer| {
            let mut entry = plain_descriptor(&layer.blob);
            entry["mediaType"] = json!(layer_type);
            entry
        })
        .collect();
    let document = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": plain_descriptor(&config), "layers": layers});
    (blobs.put_json(manifest_type, &document), config)
}

/// What an image's config says of its process.
fn image_config(wanted: &Wanted) -> Value {
    let settings = &wanted.settings;
    let mut env: Vec<&str> = settings.env.to_vec();
    if !env.iter().any(|entry| entry.starts_with("PATH=")) {
        env.insert(0, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    }
    let mut config = json!({"Cmd": wanted.command, "Env": env});
    if !settings.user.is_empty() {
        config["User"] = json!(settings.user);
    }
    if !settings.entrypoint.is_empty() {
        config["Entrypoint"] = json!(settings.entrypoint);
    }
    config
}

/// The layout of one image: its own `index.json` over the common blobs.
fn write_layout(folder: &Path, image: &TestImage) {
    let layout = folder.join("layouts").join(folder_name(&image.reference));
    fs::create_dir_all(&layout).expect("a layout can be made");
    symlink("../../blobs", layout.join("blobs")).expect("a link can be made");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
        .expect("a layout can be written");
    let tagged = image.manifests.iter().filter_map(|document| {
        let tag = document.tag.as_ref()?;
        Some(json!({"mediaType": document.media_type, "digest": document.digest, "size": document.size,
            "annotations": {"org.opencontainers.image.ref.name": tag}}))
    });
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": tagged.collect::<Vec<_>>()});
    fs::write(layout.join("index.json"), index.to_string()).expect("a layout can be written");
}

impl TestManifest {
    pub(crate) fn from_descriptor(descriptor: &Descriptor, tag: Option<String>) -> Self {
        Self {
            digest: descriptor.digest,
            size: descriptor.size,
            media_type: descriptor.media_type.clone(),
            tag,
        }
    }
}

#[cfg(test)]
mod slow {
    use super::super::recipes;
    use super::*;

    #[test]
    fn building_a_set_twice_gives_the_same_bytes() {
        // Not beside the set in the cache: Debian may have mended a package since that was made.
        let [one, two] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];

        build_set(&recipes::fast_recipe(), one.path());
        build_set(&recipes::fast_recipe(), two.path());

        let [one, two] = [&one, &two].map(|folder| TestImages::read_set(folder.path()).unwrap());
        assert_eq!(one.unique_blobs(), two.unique_blobs());
    }

    #[test]
    fn the_slow_set_is_about_a_gigabyte_in_at_least_eight_images() {
        let images = TestImages::slow();

        assert!(images.iter().count() >= 8);
        assert!((1_000_000_000..1_500_000_000).contains(&images.unique_bytes()));
    }
}
