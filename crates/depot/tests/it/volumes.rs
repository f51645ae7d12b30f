//! The depot straight from bundle files, and with damaged content.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use crate::common::{BUSYBOX, Filled, NGINX, Served, python};
use bundle::{Bundle, BundleFileSize};
use testkit::{MINILM, tools};
use types::ByteSize;

#[test]
fn images_and_models_come_straight_from_volumes() {
    let (world, commit) = Filled::new().with_images().with_minilm();
    let paths = world.volumes(BundleFileSize::Below(ByteSize(20_000_000)));
    assert!(paths.len() > 3, "the weights are split over several files");
    // Only the bundle files are left.
    fs::remove_dir_all(world.store.path()).unwrap();

    let served = Served::new(Bundle::open(&paths).unwrap());

    for image in world.images.iter() {
        let name = format!("{}/{}", served.host, image.reference);
        let validate = ["validate", "--insecure", "--remote", &name];
        if image.reference.to_string() != BUSYBOX {
            tools::run_command(tools::tool_command("crane").args(validate));
        }
    }
    let home = tempfile::tempdir().unwrap();
    let hf = tools::venv_program("hub-2.4.0", "hf");
    let output = tools::run_command(python(&hf, &served, home.path()).args(["download", MINILM]));
    assert!(output.contains(&commit), "{output}");
    let weights = "model.safetensors";
    let got = served.get(&format!("/{MINILM}/resolve/main/{weights}"));
    assert!(got.body == fs::read(tools::model_folder().join(weights)).unwrap());
}

#[test]
fn damage_stays_where_it_is() {
    let world = Filled::new().with_images();
    let nginx = world.images.get(NGINX);
    let path = world.store.blob_path(&nginx.digest);
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    fs::write(&path, bytes).unwrap();

    let served = Served::new(world.store.clone());

    let left_out = &served.summary.left_out;
    assert!(
        left_out.iter().any(|one| one.name == NGINX && one.reason.contains("damaged")),
        "{left_out:?}"
    );
    let nginx = served.get("/v2/docker.io/library/nginx/manifests/1.22");
    assert_eq!(nginx.status, 500, "it is known, and damaged");
    assert!(nginx.text().contains("damaged"), "{}", nginx.text());
    assert_eq!(served.get("/v2/docker.io/library/busybox/manifests/1.35").status, 200);
}

#[test]
fn a_blob_that_went_away_is_an_error_and_no_empty_answer() {
    let world = Filled::new();
    let folder = world.folder.path().join("small");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("config.json"), "{}").unwrap();
    world.model(&folder, "org/small", "main");
    let served = Served::new(world.store.clone());
    let digest = store::hash::sha256(b"{}");
    fs::remove_file(world.store.blob_path(&digest)).unwrap();

    let file = served.get("/org/small/resolve/main/config.json");
    let blob = served.get(&format!("/v2/huggingface.co/org/small/blobs/{digest}"));

    assert_eq!(file.status, 500);
    assert!(file.json()["error"].as_str().unwrap().contains(&digest.hex()));
    assert_eq!((blob.status, &blob.json()["errors"][0]["code"]), (404, &"BLOB_UNKNOWN".into()));
}
