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

use super::blobs::{Blobs, sha256};
use super::companions::{self, plain};
use super::compiled;
use super::debian::{Debian, Package, beyond};
use super::layer::{self, Layer, Place};
use super::python;
use super::recipe::{Companions, Format, Image as Wanted, Layer as Content, Recipe, Weights};
use super::{Document, Image, Images, cache};
use crate::tools;

/// Goes up when the same recipe gives other bytes than before, so that caches are made anew.
const GENERATION: u32 = 2;
/// All images say this time: no clock is in their bytes.
const CREATED: &str = "2024-01-01T00:00:00Z";

/// The set of a recipe: from the cache, or made now.
pub(crate) fn cached(recipe: &Recipe) -> Images {
    let key = sha256(format!("{GENERATION} {recipe:?}").as_bytes()).short();
    let folder = cache().join(format!("{}-{key}", recipe.name));
    if let Some(images) = Images::read(&folder) {
        return images;
    }
    fs::create_dir_all(cache()).expect("a cache folder can be made");
    let lock =
        File::create(cache().join(format!("{}.lock", recipe.name))).expect("a lock can be made");
    lock.lock().expect("a lock can be waited for");
    // Another process may have made it while this one waited.
    if let Some(images) = Images::read(&folder) {
        return images;
    }
    let unfinished = cache().join(format!("{}-{key}.unfinished", recipe.name));
    let _ = fs::remove_dir_all(&unfinished);
    build(recipe, &unfinished);
    let _ = fs::remove_dir_all(&folder);
    fs::rename(&unfinished, &folder).expect("a finished set can be named");
    Images::read(&folder).expect("a set that was just made can be read")
}

/// The folder of one image's layout.
pub(crate) fn folder_name(reference: &Reference) -> String {
    reference.to_string().replace(['/', ':'], "_")
}

/// A layer is the same where all content below it is the same.
type Key = (&'static str, Vec<Content>);

/// A layer to be made.
struct Task {
    key: Key,
    packages: Vec<Package>,
    /// Roughly how much work it is, in bytes.
    work: u64,
}

/// Makes a recipe's images in a folder that exists.
pub(crate) fn build(recipe: &Recipe, folder: &Path) {
    let blobs = Blobs::new(folder);
    let tasks = tasks(recipe);
    let packages: HashMap<Key, Vec<Package>> =
        tasks.iter().map(|task| (task.key.clone(), task.packages.clone())).collect();
    let layers = layers(&blobs, tasks);
    let images: Vec<Image> =
        recipe.images.iter().map(|wanted| image(&blobs, wanted, &layers, &packages)).collect();
    for image in &images {
        layout(folder, image);
    }
    let text = serde_json::to_string_pretty(&images).expect("images are plain data");
    fs::write(folder.join("images.json"), text).expect("a set can be written");
}

/// All different layers, their packages downloaded, the largest first.
fn tasks(recipe: &Recipe) -> Vec<Task> {
    let mut tasks: HashMap<Key, Task> = HashMap::new();
    let mut debians: HashMap<&str, Debian> = HashMap::new();
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
                            .or_insert_with(|| Debian::new(architecture));
                        packages_task(debian, key.clone(), &tasks)
                    }
                    content => Task { work: work(content), key: key.clone(), packages: Vec::new() },
                };
                tasks.insert(key, task);
            }
        }
    }
    for (architecture, debian) in &debians {
        let of = tasks.values().filter(|task| task.key.0 == *architecture);
        debian.download(of.flat_map(|task| &task.packages));
    }
    let mut tasks: Vec<Task> = tasks.into_values().collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(task.work));
    tasks
}

/// How much work a layer without packages is.
fn work(content: Option<&Content>) -> u64 {
    match content {
        Some(Content::HubCache(_)) => {
            tools::model().join("model.safetensors").metadata().map_or(0, |file| file.len())
        }
        _ => 0,
    }
}

fn packages_task(debian: &Debian, key: Key, known: &HashMap<Key, Task>) -> Task {
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
    let mut packages = beyond(debian.packages(&names), &below);
    if let Some(Content::Lean { without, .. }) = content.last() {
        packages.retain(|package| !without.contains(&package.name.as_str()));
    }
    let work = packages.iter().map(|package| package.size).sum();
    Task { key, packages, work }
}

/// Makes the layers, one a core at a time.
fn layers(blobs: &Blobs, tasks: Vec<Task>) -> HashMap<Key, Layer> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let queue = Mutex::new(tasks.into_iter().enumerate());
    let done = Mutex::new(HashMap::new());
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no builder panics with the queue").next();
                    let Some((number, task)) = next else { return };
                    let layer = make(blobs, &number.to_string(), &task);
                    done.lock().expect("no builder panics with the map").insert(task.key, layer);
                }
            });
        }
    });
    done.into_inner().expect("all builders have ended well")
}

fn make(blobs: &Blobs, name: &str, task: &Task) -> Layer {
    let place = if task.key.1.len() == 1 { Place::Base } else { Place::Above };
    match task.key.1.last() {
        Some(Content::HubCache(weights)) => {
            let folder = tools::model();
            let files = layer::model_files(&folder, |file| {
                *weights == Weights::With || file != Path::new("model.safetensors")
            });
            layer::of_hub_cache(blobs, name, &folder, &files)
        }
        Some(Content::Text(text)) => layer::of_text(blobs, name, text),
        Some(Content::Python(packages)) => {
            layer::of_folder(blobs, name, &python::packages(packages), python::PLACE)
        }
        Some(Content::Built(program)) => {
            let (folder, place) = compiled::program(*program);
            layer::of_folder(blobs, name, &folder, place)
        }
        Some(Content::Files(files)) => layer::of_files(blobs, name, files),
        _ => layer::of_packages(blobs, name, &task.packages, place),
    }
}

/// Writes an image's documents.
fn image(
    blobs: &Blobs,
    wanted: &Wanted,
    layers: &HashMap<Key, Layer>,
    packages: &HashMap<Key, Vec<Package>>,
) -> Image {
    let reference: Reference = wanted.reference.parse().expect("a recipe's references are valid");
    let mut documents = Vec::new();
    let mut needed: Vec<Descriptor> = Vec::new();
    let mut listed = Vec::new();
    for architecture in wanted.architectures {
        let stack: Vec<&Layer> = (1..=wanted.layers.len())
            .map(|height| &layers[&(*architecture, wanted.layers[..height].to_vec())])
            .collect();
        let (manifest, config) = manifest(blobs, wanted, architecture, &stack);
        needed.push(config);
        needed.extend(stack.iter().map(|layer| layer.blob.clone()));
        let mut entry = plain(&manifest);
        entry["platform"] = json!({"architecture": architecture, "os": "linux"});
        listed.push(entry);
        documents.push(Document::of(&manifest, None));
    }
    if listed.len() > 1 {
        let index =
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": listed});
        let index = blobs.put_json(media_type::OCI_INDEX, &index);
        documents.insert(0, Document::of(&index, None));
    }
    documents[0].tag = reference.tag().map(String::from);
    let root = documents[0].clone();

    if wanted.companions == Companions::SignatureAndSbom {
        let subject = Descriptor::new(&root.media_type, root.digest, root.size);
        let all: Vec<Package> = (1..=wanted.layers.len())
            .filter_map(|height| {
                packages.get(&(wanted.architectures[0], wanted.layers[..height].to_vec()))
            })
            .flatten()
            .cloned()
            .collect();
        let (more, blobs) = companions::write(blobs, &reference.name(), &subject, &all);
        documents.extend(more);
        needed.extend(blobs);
    }
    Image {
        digest: root.digest,
        platforms: wanted.architectures.iter().map(|name| format!("linux/{name}")).collect(),
        is_signed: wanted.companions == Companions::SignatureAndSbom,
        manifests: documents,
        blobs: needed.iter().map(|blob| (blob.digest, blob.size)).collect::<BTreeMap<_, _>>(),
        reference,
    }
}

fn manifest(
    blobs: &Blobs,
    wanted: &Wanted,
    architecture: &str,
    stack: &[&Layer],
) -> (Descriptor, Descriptor) {
    let (manifest_type, config_type, layer_type) = match wanted.format {
        Format::Oci => {
            (media_type::OCI_MANIFEST, media_type::OCI_CONFIG, media_type::OCI_LAYER_GZIP)
        }
        Format::Docker => (
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
            "config": settings(wanted),
            "rootfs": {"type": "layers", "diff_ids": stack.iter().map(|layer| layer.diff_id).collect::<Vec<_>>()},
            "history": history}),
    );
    let layers: Vec<Value> = stack
        .iter()
        .map(|layer| {
            let mut entry = plain(&layer.blob);
            entry["mediaType"] = json!(layer_type);
            entry
        })
        .collect();
    let document = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": plain(&config), "layers": layers});
    (blobs.put_json(manifest_type, &document), config)
}

/// What an image's config says of its process.
fn settings(wanted: &Wanted) -> Value {
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
fn layout(folder: &Path, image: &Image) {
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

impl Document {
    pub(crate) fn of(descriptor: &Descriptor, tag: Option<String>) -> Self {
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
    use super::super::recipe;
    use super::*;

    #[test]
    fn building_a_set_twice_gives_the_same_bytes() {
        // Not beside the set in the cache: Debian may have mended a package since that was made.
        let [one, two] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];

        build(&recipe::fast(), one.path());
        build(&recipe::fast(), two.path());

        let [one, two] = [&one, &two].map(|folder| Images::read(folder.path()).unwrap());
        assert_eq!(one.unique_blobs(), two.unique_blobs());
    }

    #[test]
    fn the_slow_set_is_about_a_gigabyte_in_at_least_eight_images() {
        let images = Images::slow();

        assert!(images.iter().count() >= 8);
        assert!((1_000_000_000..1_500_000_000).contains(&images.unique_bytes()));
    }
}
