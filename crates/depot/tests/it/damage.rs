//! Damaged content: whatever happened to a medium, no client completes a response with wrong bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bundle::{Bundle, BundleFileSize};
use testkit::{MINILM, tools};
use types::{ByteSize, Digest};

use crate::common::{Filled, NGINX, Served, python};

/// How many damages are tried: a few by default, more in `make test-hard`.
fn count_of_damages() -> u64 {
    std::env::var("GANTRY_TEST_DAMAGES").map_or(50, |text| text.parse().unwrap())
}

#[test]
fn no_response_from_a_damaged_bundle_is_completed_with_wrong_bytes() {
    let world = Filled::new().with_images();
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    fs::create_dir(&model).unwrap();
    let mut random = Random::new(1_000_000);
    let weights: Vec<u8> = (0..3_000_000).map(|_| random.below(256) as u8).collect();
    fs::write(model.join("config.json"), "{}").unwrap();
    fs::write(model.join(WEIGHTS), weights).unwrap();
    world.model(&model, "org/tiny", "main");
    let pristine = world.volumes(BundleFileSize::Below(ByteSize(3_000_000)));
    assert!(pristine.len() > 2, "a blob is in several files");
    let paths = blob_paths(&world, &model);
    let (mut refused, mut failed, mut completed) = (0, 0, 0);

    for seed in 0..count_of_damages() {
        let mut random = Random::new(seed);
        let (files, what) = damaged_copy(&pristine, folder.path(), &mut random);
        // Damage of what is read at the start is reported then.
        let Ok(bundle) = Bundle::open(&files) else {
            refused += 1;
            continue;
        };
        let served = Served::new(bundle);
        for (path, content) in &paths {
            let size = content.len() as u64;
            let (start, length) = (random.below(size.max(1)), 1 + random.below(100_000));
            let end = (start + length).min(size);
            // A part before and after the whole: unchecked, and checked.
            for range in [Some(start..end), None, Some(start..end)] {
                let expected = match &range {
                    Some(range) => &content[range.start as usize..range.end as usize],
                    None => content,
                };
                match request(&served.host, path, range.clone()) {
                    Exchange::Complete(200, body) => {
                        assert!(body == *content, "{what}: {path} {range:?} has wrong bytes");
                        completed += 1;
                    }
                    Exchange::Complete(206, body) => {
                        assert!(body == expected, "{what}: {path} {range:?} has wrong bytes");
                        completed += 1;
                    }
                    Exchange::Complete(status, _) => {
                        assert!(status >= 400, "{what}: {path} {range:?} {status}");
                        failed += 1;
                    }
                    Exchange::Aborted => failed += 1,
                }
            }
        }
    }
    println!(
        "{} damages: {refused} refused at the start, {failed} responses failed, {completed} were right",
        count_of_damages()
    );
    assert!(completed > 0, "what is not damaged is served");
    assert!(failed > 0, "damage is found");
}

#[test]
fn real_clients_end_with_an_error_and_without_the_damaged_file() {
    let (world, _) = Filled::new().with_images().with_minilm();
    let weights = store::hash::sha256(&fs::read(tools::model_folder().join(WEIGHTS)).unwrap());
    let layer = largest_layer(&world);
    for digest in [weights, layer] {
        let path = world.store.blob_path(&digest);
        flip_bit(&path, fs::metadata(&path).unwrap().len() / 2);
    }
    let served = Served::new(world.store.clone());
    let folder = tempfile::tempdir().unwrap();

    let home = folder.path().join("hf");
    let hf = tools::venv_program("hub-2.4.0", "hf");
    let download = python(&hf, &served, &home).args(["download", MINILM]).output().unwrap();
    assert!(!download.status.success(), "{download:?}");
    assert!(!has_file_named(&home, WEIGHTS), "no finished file of the weights");

    let name = format!("{}/{NGINX}", served.host);
    let target = format!("oci:{}", folder.path().join("skopeo").display());
    for (tool, arguments) in [
        ("crane", vec!["pull", "--insecure", &name, "/dev/null"]),
        (
            "skopeo",
            vec![
                "--insecure-policy",
                "copy",
                "--retry-times=0",
                "--src-tls-verify=false",
                &format!("docker://{name}"),
                &target,
            ],
        ),
    ] {
        let output = tools::tool_command(tool).args(arguments).output().unwrap();
        assert!(!output.status.success(), "{tool}: {output:?}");
    }

    let blob = format!("/v2/docker.io/library/nginx/blobs/{layer}");
    // 18: the transfer ended early; 22: an error status; 92: an HTTP/2 stream was not closed cleanly.
    for arguments in [&[][..], &["--http2-prior-knowledge"], &["-r", "0-99"], &["-r", "1000-"]] {
        let code = curl(&served.url(&blob), arguments).code();
        assert!(matches!(code, Some(18 | 22 | 92)), "{arguments:?}: {code:?}");
    }
    let head = served.curl(&blob, &["--head"]);
    assert_eq!(head.status, 500);
    let ready = served.get("/readyz");
    assert_eq!(ready.status, 200, "the rest is served");
    assert!(ready.text().contains(&layer.to_string()), "{}", ready.text());
    assert!(served.get("/metrics").text().contains("gantry_depot_damaged_blobs 2"));
}

#[test]
fn a_blob_that_changes_after_it_was_checked_is_checked_again() {
    let world = Filled::new().with_images();
    let layer = largest_layer(&world);
    let path = world.store.blob_path(&layer);
    let content = fs::read(&path).unwrap();
    let served = Served::new(world.store.clone());
    let blob = format!("/v2/docker.io/library/nginx/blobs/{layer}");
    let part = || served.curl(&blob, &["-r", "10-19"]);
    assert_eq!((part().status, part().body), (206, content[10..20].to_vec()));

    flip_bit(&path, 15);
    assert_eq!(part().status, 500);

    // As it was, and whole again.
    flip_bit(&path, 15);
    assert_eq!((part().status, part().body), (206, content[10..20].to_vec()));
    fs::write(&path, &content[..content.len() - 1]).unwrap();
    for answer in [part(), served.get(&blob), served.curl(&blob, &["--head"])] {
        assert_eq!(answer.status, 500, "the length is that of the manifest");
    }
    assert!(
        served.get("/readyz").text().contains("the last 1 B of"),
        "{}",
        served.get("/readyz").text()
    );
}

#[test]
fn a_server_whose_medium_is_gone_is_not_ready_and_names_the_file_that_was_cut() {
    let world = Filled::new().with_images();
    let files = world.volumes(BundleFileSize::Unlimited);
    let served = Served::new(Bundle::open(&files).unwrap());
    assert_eq!(served.get("/readyz").status, 200);

    let length = fs::metadata(&files[0]).unwrap().len();
    OpenOptions::new().write(true).open(&files[0]).unwrap().set_len(length / 2).unwrap();
    let ready = served.get("/readyz");
    assert_eq!(ready.status, 503);
    let name = files[0].file_name().unwrap().to_str().unwrap();
    assert!(ready.text().contains(name) && ready.text().contains("missing"), "{}", ready.text());

    fs::remove_file(&files[0]).unwrap();
    assert_eq!(served.get("/readyz").status, 503);
    assert_eq!(served.get("/healthz").status, 200, "the process itself is well");
}

const WEIGHTS: &str = "model.safetensors";

/// Every path at which a blob is served, at both endpoints, with its content.
fn blob_paths(world: &Filled, model: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut paths = BTreeMap::new();
    for root in world.store.roots().unwrap() {
        let closure = store::find_closure(&world.store, &root).unwrap();
        for descriptor in closure.blobs {
            let content = fs::read(world.store.blob_path(&descriptor.digest)).unwrap();
            paths.insert(format!("/v2/{}/blobs/{}", root.name.name(), descriptor.digest), content);
        }
    }
    for entry in fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            paths.insert(format!("/org/tiny/resolve/main/{name}"), fs::read(path).unwrap());
        }
    }
    paths
}

fn largest_layer(world: &Filled) -> Digest {
    let image = world.images.get(NGINX);
    let layers = image.manifests.iter().flat_map(|document| {
        let manifest = world.manifest(&document.digest);
        manifest["layers"].as_array().cloned().unwrap_or_default()
    });
    let largest = layers.max_by_key(|layer| layer["size"].as_u64()).unwrap();
    largest["digest"].as_str().unwrap().parse().unwrap()
}

/// The bundle files with one kind of damage, and what was done.
fn damaged_copy(
    pristine: &[PathBuf],
    folder: &Path,
    random: &mut Random,
) -> (Vec<PathBuf>, String) {
    let _ = fs::remove_dir_all(folder.join("media"));
    fs::create_dir(folder.join("media")).unwrap();
    let mut files: Vec<PathBuf> = pristine
        .iter()
        .map(|path| {
            let copy = folder.join("media").join(path.file_name().unwrap());
            fs::copy(path, &copy).unwrap();
            copy
        })
        .collect();
    let at = random.below(files.len() as u64) as usize;
    let length = fs::metadata(&files[at]).unwrap().len();
    let what = match random.below(6) {
        0 | 1 => {
            let offset = random.below(length);
            flip_bit(&files[at], offset);
            format!("a flipped bit at {offset} of file {at}")
        }
        2 => {
            let left = random.below(length);
            OpenOptions::new().write(true).open(&files[at]).unwrap().set_len(left).unwrap();
            format!("file {at} cut to {left}")
        }
        3 => {
            let offset = random.below(length);
            overwrite(&files[at], offset, &vec![0; 4096.min((length - offset) as usize)]);
            format!("zeros at {offset} of file {at}")
        }
        4 => {
            // Data that are there, in another place.
            let (from, to) = (random.below(length / 2), length / 2);
            let mut bytes = vec![0; 65_536.min((length - to) as usize)];
            let mut file = File::open(&files[at]).unwrap();
            file.seek(SeekFrom::Start(from)).unwrap();
            file.read_exact(&mut bytes).unwrap();
            overwrite(&files[at], to, &bytes);
            format!("bytes of {from} at {to} of file {at}")
        }
        _ => {
            // The content of two files is swapped, each up to its own end record.
            let other = random.below(files.len() as u64) as usize;
            let mut one = fs::read(&files[at]).unwrap();
            let mut two = fs::read(&files[other]).unwrap();
            let middle = one.len().min(two.len()) / 2;
            one[..middle].swap_with_slice(&mut two[..middle]);
            fs::write(&files[at], one).unwrap();
            if other != at {
                fs::write(&files[other], two).unwrap();
            }
            format!("the first halves of {at} and {other} swapped")
        }
    };
    files.rotate_left(at);
    (files, what)
}

pub(crate) fn flip_bit(path: &Path, offset: u64) {
    let mut byte = [0];
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.read_exact(&mut byte).unwrap();
    byte[0] ^= 4;
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&byte).unwrap();
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(bytes).unwrap();
}

fn has_file_named(folder: &Path, name: &str) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let path = entry.path();
        entry.file_name() == name && path.exists() || path.is_dir() && has_file_named(&path, name)
    })
}

fn curl(url: &str, arguments: &[&str]) -> std::process::ExitStatus {
    Command::new("curl")
        .args(["-sSf", "-o", "/dev/null"])
        .args(arguments)
        .arg(url)
        .status()
        .unwrap()
}

/// What a client sees of a response.
pub(crate) enum Exchange {
    /// All bytes that its length promises.
    Complete(u16, Vec<u8>),
    /// Fewer.
    Aborted,
}

/// One request on a connection of its own, in the plainest way, so that nothing is forgiven.
pub(crate) fn request(host: &str, path: &str, range: Option<std::ops::Range<u64>>) -> Exchange {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let range = range.map_or(String::new(), |range| {
        format!("range: bytes={}-{}\r\n", range.start, range.end.saturating_sub(1))
    });
    let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{range}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    // A reset after some bytes is an end as well.
    let _ = stream.read_to_end(&mut bytes);
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Exchange::Aborted;
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |text| text.trim().parse().unwrap());
    let body = bytes.split_off(end + 4);
    if body.len() == length { Exchange::Complete(status, body) } else { Exchange::Aborted }
}

/// Numbers that are the same at each run (xorshift64*).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % most
    }
}
