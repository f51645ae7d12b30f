//! Local images are imported completely and verified, whichever tool wrote them: here skopeo for
//! archives and podman as a container engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::world::{self, Layout, Member, run, text};
use gantry_remote::Error;
use gantry_remote::local::{self, ImportedImage, LocalImages};
use gantry_remote::name_pattern::NamePattern;
use store::progress::SilentProgress;
use store::{Source as _, Store};
use types::{Manifest, Platform, Reference};

struct World {
    folder: tempfile::TempDir,
    layout: Layout,
    store: Store,
}

/// Two images, of which `two` has two platforms.
fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(folder.path().join("layout"));
    let base = [Member::File("etc/os-release", b"ID=test\n".to_vec())];
    let app = [Member::File("app/data", world::noise(1, 300_000))];
    let amd64 = layout.image("amd64", &[&base, &app]);
    let arm64 = layout.image("arm64", &[&[Member::File("app/arm", world::noise(2, 1000))]]);
    layout.name("example.com/team/one:1", amd64.clone());
    let index = layout.index(&[amd64, arm64]);
    layout.name("two:2", index);
    let store = Store::open(folder.path().join("store")).unwrap();
    World { folder, layout, store }
}

fn linux(architecture: &str) -> Vec<Platform> {
    vec![format!("linux/{architecture}").parse().unwrap()]
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

impl World {
    fn skopeo(&self, from: &str, to: &str) -> PathBuf {
        let archive = self.folder.path().join("archive.tar");
        let from = format!("oci:{}:{from}", text(&self.layout.path));
        let to = to.replace("ARCHIVE", &text(&archive));
        run("skopeo", &["copy", "--quiet", "--override-arch=amd64", &from, &to]);
        archive
    }

    fn archive(&self, path: &Path, name: &str) -> gantry_remote::Result<ImportedImage> {
        let opened = LocalImages::open_archive(path, &self.store)?;
        opened.import_image(&reference(name), &linux("amd64"), &self.store, &SilentProgress)
    }

    fn layout(
        &self,
        path: &Path,
        name: &str,
        platforms: &[Platform],
    ) -> gantry_remote::Result<ImportedImage> {
        let opened = LocalImages::open_layout(path)?;
        opened.import_image(&reference(name), platforms, &self.store, &SilentProgress)
    }

    /// An archive of podman with these images, which are all `team/one` under other names.
    fn podman_archive(&self, names: &[&str]) -> PathBuf {
        let podman = |arguments: &[&str]| {
            let mut all = Podman::options(self.folder.path());
            all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
            run("podman", &all.iter().map(String::as_str).collect::<Vec<_>>());
        };
        for (number, name) in names.iter().enumerate() {
            let from = if number % 2 == 0 { "example.com/team/one:1" } else { "two:2" };
            let archive = self.skopeo(from, &format!("docker-archive:ARCHIVE:{name}"));
            podman(&["load", "-q", "-i", &text(&archive)]);
            fs::remove_file(archive).unwrap();
        }
        let all = self.folder.path().join("all.tar");
        podman(&[&["save", "-q", "-m", "-o", &text(&all)], names].concat());
        all
    }

    /// Asserts that the store has the whole image, and that skopeo can copy it out of there.
    fn assert_whole(&self, image: &ImportedImage) {
        self.store.publish_roots(std::slice::from_ref(&image.root)).unwrap();
        let closure = store::find_closure(&self.store, &image.root).unwrap();
        assert!(!closure.blobs.is_empty());
        let out = self.folder.path().join("out");
        let from = format!("oci:{}:{}", text(self.store.path()), image.root.name);
        run("skopeo", &["copy", "--quiet", &from, &format!("dir:{}", text(&out))]);
    }

    fn config(&self, image: &ImportedImage) -> Vec<u8> {
        let config = image.manifests[0].config.unwrap();
        store::read_blob(&self.store, &config.digest, 1 << 20).unwrap()
    }
}

#[test]
fn a_docker_save_archive_gives_the_same_manifest_every_time_and_keeps_the_config() {
    let world = world();
    let archive =
        world.skopeo("example.com/team/one:1", "docker-archive:ARCHIVE:example.com/team/one:1");

    let image = world.archive(&archive, "example.com/team/one:1").unwrap();

    world.assert_whole(&image);
    assert_eq!(image.manifests[0].layers.len(), 2);
    assert_eq!(image.manifests[0].platform, Some(Platform::linux_amd64()));
    let inside = run("tar", &["xOf", &text(&archive), "manifest.json"]);
    let inside: serde_json::Value = serde_json::from_str(&inside).unwrap();
    let config = run("tar", &["xOf", &text(&archive), inside[0]["Config"].as_str().unwrap()]);
    assert_eq!(world.config(&image), config.as_bytes());
    assert_eq!(world.archive(&archive, "example.com/team/one:1").unwrap(), image);
}

#[test]
fn a_compressed_docker_save_archive_gives_what_the_plain_one_gives() {
    let world = world();
    let archive = world.skopeo("example.com/team/one:1", "docker-archive:ARCHIVE:one:1");
    let plain = world.archive(&archive, "one:1").unwrap();
    let bytes = fs::read(&archive).unwrap();
    let gzip = world.folder.path().join("archive.tar.gz");
    fs::write(&gzip, world::gzip(&bytes)).unwrap();
    let zstd = world.folder.path().join("archive.tar.zst");
    fs::write(&zstd, zstd::encode_all(bytes.as_slice(), 1).unwrap()).unwrap();

    // In two streams, as parallel compressors write.
    let xz = world.folder.path().join("archive.tar.xz");
    let middle = bytes.len() / 2;
    let mut streams = Vec::new();
    for part in [&bytes[..middle], &bytes[middle..]] {
        let plain = world.folder.path().join("part");
        fs::write(&plain, part).unwrap();
        let output = std::process::Command::new("xz").arg("-c").arg(&plain).output().unwrap();
        assert!(output.status.success());
        streams.extend(output.stdout);
    }
    fs::write(&xz, streams).unwrap();

    for compressed in [gzip, zstd, xz] {
        let fresh = World {
            store: Store::open(world.folder.path().join(compressed.extension().unwrap())).unwrap(),
            folder: tempfile::tempdir().unwrap(),
            layout: Layout::new(world.folder.path().join("x")),
        };
        let image = fresh.archive(&compressed, "one:1").unwrap();
        assert_eq!(image, plain);
        fresh.assert_whole(&image);
        let left: Vec<_> =
            fs::read_dir(fresh.store.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".tmp")), "{left:?}");
    }
}

#[test]
fn an_oci_archive_and_its_folder_keep_the_manifest_bit_for_bit() {
    let world = world();
    let archive = world.skopeo("example.com/team/one:1", "oci-archive:ARCHIVE:team/one:1");
    let out = world.folder.path().join("unpacked");
    fs::create_dir(&out).unwrap();
    run("tar", &["xf", &text(&archive), "-C", &text(&out)]);
    let there = fs::read_to_string(out.join("index.json")).unwrap();

    let from_archive = world.archive(&archive, "team/one:1").unwrap();
    let from_folder = world.layout(&out, "team/one:1", &linux("amd64")).unwrap();

    assert_eq!(from_archive, from_folder);
    assert!(there.contains(&from_archive.root.descriptor.digest.to_string()));
    world.assert_whole(&from_archive);
}

#[test]
fn links_of_a_layout_may_lead_to_its_own_files_and_nowhere_else() {
    let world = world();
    let layout = &world.layout.path;
    let take = || world.layout(layout, "example.com/team/one:1", &linux("amd64"));
    let manifest = take().unwrap().root.descriptor.digest;
    let parts = [format!("blobs/sha256/{}", manifest.hex()), "index.json".into(), "blobs".into()];
    for part in parts {
        let (part, elsewhere) = (layout.join(&part), world.folder.path().join("elsewhere"));
        let inside = layout.join("moved");
        fs::rename(&part, &inside).unwrap();
        symlink(&inside, &part).unwrap();
        take().unwrap();
        fs::rename(&inside, &elsewhere).unwrap();
        fs::remove_file(&part).unwrap();
        symlink(&elsewhere, &part).unwrap();
        let error = take().unwrap_err();
        assert!(error.is_input(), "{error}");
        assert!(error.to_string().contains("is a link to"), "{error}");
        fs::remove_file(&part).unwrap();
        fs::rename(&elsewhere, &part).unwrap();
    }
    // The layout itself is what the user names.
    let named = world.folder.path().join("named");
    symlink(layout, &named).unwrap();
    world.layout(&named, "example.com/team/one:1", &linux("amd64")).unwrap();
}

#[test]
fn of_an_index_only_the_chosen_platform_comes_and_the_digest_stays() {
    let world = world();
    let layout = &world.layout.path;

    let image = world.layout(layout, "two:2", &linux("arm64")).unwrap();

    let index = store::read_blob(&world.store, &image.root.descriptor.digest, 1 << 20).unwrap();
    let index = Manifest::parse("index", &index).unwrap();
    assert_eq!(index.manifests.len(), 2);
    assert_eq!(image.manifests.len(), 1);
    assert_eq!(
        world.store.blob_size(&index.manifests[0].digest).unwrap(),
        None,
        "amd64 stays behind"
    );
    assert!(world.store.blob_size(&index.manifests[1].digest).unwrap().is_some());
    store::find_closure(&world.store, &image.root).unwrap();
}

#[test]
fn an_index_with_the_content_of_one_platform_gives_that_one() {
    let world = world();
    let index = fs::read_to_string(world.layout.path.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let digest: types::Digest = index["manifests"][1]["digest"].as_str().unwrap().parse().unwrap();
    let blob = |digest: &types::Digest| world.layout.path.join("blobs/sha256").join(digest.hex());
    let document = Manifest::parse("index", &fs::read(blob(&digest)).unwrap()).unwrap();
    fs::remove_file(blob(&document.manifests[1].digest)).unwrap();
    let take = |platforms: &[&str]| {
        let platforms: Vec<Platform> =
            platforms.iter().map(|platform| platform.parse().unwrap()).collect();
        world.layout(&world.layout.path, "two:2", &platforms)
    };

    let both = take(&["linux/amd64", "linux/arm64"]).unwrap();
    let absent = take(&["linux/arm64"]).unwrap_err();

    assert_eq!(both.manifests.len(), 1);
    assert_eq!(both.manifests[0].platform, Some(Platform::linux_amd64()));
    assert!(matches!(absent, Error::NoPlatform { .. }), "{absent}");
}

#[test]
fn the_form_of_docker_25_is_read_by_its_layout() {
    // docker save since 25 writes an OCI layout and manifest.json into one tar, with plain layers.
    let world = world();
    let archive = world.skopeo("example.com/team/one:1", "docker-archive:ARCHIVE:one:1");
    let old = world.archive(&archive, "one:1").unwrap();
    let tree = world.folder.path().join("docker25");
    let mut layout = Layout::new(tree.clone());
    for blob in [old.manifests[0].config.unwrap()].iter().chain(&old.manifests[0].layers) {
        layout.blob(&store::read_blob(&world.store, &blob.digest, 1 << 24).unwrap());
    }
    let manifest = store::read_blob(&world.store, &old.manifests[0].digest, 1 << 20).unwrap();
    let mut descriptor = layout.blob(&manifest);
    descriptor["mediaType"] = "application/vnd.oci.image.manifest.v1+json".into();
    layout.name("1", descriptor);
    let item = serde_json::json!([{
        "Config": format!("blobs/sha256/{}", old.manifests[0].config.unwrap().digest.hex()),
        "RepoTags": ["one:1"],
        "Layers": old.manifests[0].layers.iter().map(|layer| format!("blobs/sha256/{}", layer.digest.hex())).collect::<Vec<_>>(),
    }]);
    fs::write(tree.join("manifest.json"), serde_json::to_vec(&item).unwrap()).unwrap();
    let both = world.folder.path().join("both.tar");
    run("tar", &["cf", &text(&both), "-C", &text(&tree), "."]);

    let image = world.archive(&both, "one:1").unwrap();

    assert_eq!(image.root.descriptor.digest, old.root.descriptor.digest);
}

#[test]
fn what_is_wrong_is_named() {
    let world = world();
    let layout = &world.layout.path;
    let take = |name: &str, architecture: &str| world.layout(layout, name, &linux(architecture));
    let error = take("three:3", "amd64").unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("example.com/team/one:1"), "{error}");
    let error = take("two:2", "s390x").unwrap_err().to_string();
    assert!(error.contains("linux/s390x") && error.contains("linux/arm64"), "{error}");
    let error = take("example.com/team/one:1", "arm64").unwrap_err().to_string();
    assert!(error.contains("it is available for linux/amd64"), "{error}");

    let archive = world.skopeo("example.com/team/one:1", "docker-archive:ARCHIVE:one:1");
    let bytes = fs::read(&archive).unwrap();
    fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
    let error = world.archive(&archive, "one:1").unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");

    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(&archive, &flipped).unwrap();
    let fresh = Store::open(world.folder.path().join("fresh")).unwrap();
    let opened = LocalImages::open_archive(&archive, &fresh).unwrap();
    let error = opened
        .import_image(&reference("one:1"), &linux("amd64"), &fresh, &SilentProgress)
        .unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");

    fs::write(&archive, world::tar(&[Member::File("bin/sh", vec![1])])).unwrap();
    let error = world.archive(&archive, "one:1").unwrap_err().to_string();
    assert!(error.contains("docker export"), "{error}");
    assert!(
        world
            .archive(Path::new("/nowhere.tar"), "a:1")
            .unwrap_err()
            .to_string()
            .contains("/nowhere.tar")
    );
}

fn patterns(texts: &[&str]) -> Vec<NamePattern> {
    texts.iter().map(|text| NamePattern::parse(text).unwrap()).collect()
}

#[test]
fn an_archive_of_several_images_is_opened_once_for_all_of_them() {
    let world = world();
    let names = ["example.com/akko/one:1", "example.com/akko/two:2", "quay.io/other/three:3"];
    let plain = world.podman_archive(&names);
    let bytes = fs::read(&plain).unwrap();
    let (gzip, zstd) = (plain.with_extension("tar.gz"), plain.with_extension("tar.zst"));
    fs::write(&gzip, world::gzip(&bytes)).unwrap();
    fs::write(&zstd, zstd::encode_all(bytes.as_slice(), 1).unwrap()).unwrap();
    run("xz", &["--keep", "-0", &text(&plain)]);
    let mut digests = Vec::new();

    for archive in [gzip, zstd, plain.with_extension("tar.xz"), plain] {
        let store = Store::open(archive.with_extension("store")).unwrap();
        let opened = LocalImages::open_archive(&archive, &store).unwrap();
        // Whatever is read from now on comes from what was opened.
        fs::remove_file(&archive).unwrap();
        let all = opened.select_names(&[]).unwrap();
        assert_eq!(all, names.map(reference));
        let some = opened.select_names(&patterns(&["akko/*", "example.com/akko/two"])).unwrap();
        assert_eq!(some, [reference(names[0]), reference(names[1])]);
        let images: Vec<_> = all
            .iter()
            .map(|name| {
                opened.import_image(name, &linux("amd64"), &store, &SilentProgress).unwrap()
            })
            .collect();
        for image in &images {
            store.publish_roots(std::slice::from_ref(&image.root)).unwrap();
            assert!(!store::find_closure(&store, &image.root).unwrap().blobs.is_empty());
        }
        digests.push(images.iter().map(|image| image.root.descriptor.digest).collect::<Vec<_>>());

        let error = opened.select_names(&patterns(&["akko/*", "akko/for*"])).unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains("\"akko/for*\"") && error.contains(names[2]), "{error}");
    }

    assert!(digests.iter().all(|own| *own == digests[0]), "{digests:?}");
    // `one` and `three` are the same image.
    assert_eq!(digests[0][0], digests[0][2]);
}

#[test]
fn an_image_without_a_name_is_named_where_all_of_an_archive_are_wanted() {
    let world = world();
    let single = world.skopeo("example.com/team/one:1", "docker-archive:ARCHIVE");
    let opened = LocalImages::open_archive(&single, &world.store).unwrap();
    let error = opened.select_names(&[]).unwrap_err().to_string();
    assert!(error.contains("has no name") && error.contains("image:"), "{error}");
    // With a name of the user's it is imported.
    world.archive(&single, "mine:1").unwrap();

    // A layout with tags alone, as `skopeo copy … oci:DIR:TAG` writes it, and one full name.
    let folder = world.folder.path().join("tags");
    let mut layout = Layout::new(folder.clone());
    let base = [Member::File("etc/os-release", b"ID=test\n".to_vec())];
    let image = layout.image("amd64", &[&base]);
    layout.name("example.com/team/named:1", image);
    let other = layout.image("amd64", &[&[Member::File("x", b"y".to_vec())]]);
    layout.name("1.25", other);
    let opened = LocalImages::open_layout(&folder).unwrap();
    let error = opened.select_names(&[]).unwrap_err().to_string();
    assert!(
        error.contains("1 of its images") && error.contains("example.com/team/named:1"),
        "{error}"
    );
    let chosen = opened.select_names(&patterns(&["team/*"])).unwrap();
    assert_eq!(chosen, [reference("example.com/team/named:1")]);
}

/// podman's service on a socket of this test; stopped on drop.
struct Podman {
    service: Child,
    folder: PathBuf,
}

impl Podman {
    fn start(folder: &Path) -> Self {
        let socket = folder.join("podman.sock");
        let service = Command::new("podman")
            .args(Self::options(folder))
            .args(["system", "service", "--time=0"])
            .arg(format!("unix://{}", socket.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("podman; run dev/setup");
        let podman = Self { service, folder: folder.to_owned() };
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(begun.elapsed() < Duration::from_mins(1), "podman's service does not answer");
            std::thread::yield_now();
        }
        podman
    }

    fn options(folder: &Path) -> Vec<String> {
        vec![
            format!("--root={}", text(&folder.join("podman-root"))),
            format!("--runroot={}", text(&folder.join("podman-run"))),
            "--storage-driver=vfs".into(),
            "--cgroup-manager=cgroupfs".into(),
        ]
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("podman.sock")
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
}

#[tokio::test]
async fn an_own_build_comes_out_of_a_container_engine() {
    let world = world();
    let archive = world.skopeo("example.com/team/one:1", "docker-archive:ARCHIVE:localhost/own:1");
    let mut load = Podman::options(world.folder.path());
    load.extend(["load".into(), "-q".into(), "-i".into(), text(&archive)]);
    run("podman", &load.iter().map(String::as_str).collect::<Vec<_>>());
    let podman = Podman::start(world.folder.path());
    let socket = podman.socket();
    let take = |name: &str| {
        let (socket, name, store) = (socket.clone(), reference(name), world.store.clone());
        async move {
            local::import_image_from_engine(
                &socket,
                &name,
                &linux("amd64"),
                &store,
                Arc::new(SilentProgress),
            )
            .await
        }
    };

    let image = take("own:1").await.unwrap();

    world.assert_whole(&image);
    assert_eq!(image.root.name, reference("own:1"));
    let expected = world.archive(&archive, "own:1").unwrap();
    assert_eq!(image.manifests[0].layers, expected.manifests[0].layers);

    let error = take("absent:1").await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("localhost/own:1"), "{error}");
    drop(podman);
    let error = take("own:1").await.unwrap_err().to_string();
    assert!(error.contains("systemctl start docker"), "{error}");
}
