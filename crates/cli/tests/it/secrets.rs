//! Passwords, tokens and signatures in addresses: they are used, and stand nowhere but in gantry.yaml. And
//! servers whose certificate is not verified: with a warning at each run.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use crate::story;
use testkit::{TestEnvironment, TestHub, TestRegistry};

/// A web server that has one file for those who know the password and the token.
fn serve_private_file(content: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0)
            {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let is_known = head.contains("token=geheim-2")
                && head.to_ascii_lowercase().contains("authorization: basic bwu6z2vozwltlte=");
            let (status, body) =
                if is_known { ("200 OK", content) } else { ("403 Forbidden", &b"no"[..]) };
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes());
            if !head.starts_with("HEAD") {
                let _ = stream.write_all(body);
            }
        }
    });
    host
}

/// Every file below a folder.
fn all_files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { all_files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn secrets_of_an_address_are_used_and_stand_in_no_lock_bundle_or_message() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(story::BINARY);
    let host = serve_private_file(b"weights");
    // me:geheim-1 in base64 is what the server wants to see.
    let url = format!("http://me:geheim-1@{host}/m.gguf?rev=2&token=geheim-2");
    gantry
        .write_file("gantry.yaml", &format!("version: 1\nname: s\nmodels: [{{url: \"{url}\"}}]\n"));

    let mut printed = String::new();
    for arguments in [
        vec!["lock", "-vv"],
        vec!["plan", "--output", "json"],
        vec!["fetch", "-vv"],
        vec!["pack", "-o", "media", "--output", "json"],
        vec!["inspect", "media"],
    ] {
        let output = gantry.run(arguments).assert_success();
        printed.push_str(&format!("{output:?}"));
    }
    // Again with an empty store: from the lock and the input.
    fs::remove_dir_all(gantry.store()).unwrap();
    printed.push_str(&format!("{:?}", gantry.run(["fetch"]).assert_success()));
    // What fails says so without the secrets as well.
    let broken = gantry.read_file("gantry.yaml").replace("geheim-2", "geheim-3");
    gantry.write_file("gantry.yaml", &broken);
    fs::remove_file(gantry.folder().join("gantry.lock")).unwrap();
    let refused = gantry.run(["lock", "--output", "json"]);
    printed.push_str(&format!("{refused:?}"));

    assert!(!printed.contains("geheim"), "{printed}");
    assert!(printed.contains("/m.gguf?rev=2"), "{printed}");
    let mut files = Vec::new();
    all_files(gantry.folder(), &mut files);
    all_files(gantry.store(), &mut files);
    for file in files.iter().filter(|file| !file.ends_with("gantry.yaml")) {
        let content = fs::read(file).unwrap();
        let has_secret = content.windows(6).any(|window| window == b"geheim");
        assert!(!has_secret, "{} has a secret", file.display());
    }
}

#[test]
fn a_certificate_is_not_verified_when_that_is_asked_for_and_each_run_says_so() {
    let world = TestEnvironment::fast();
    let registry = TestRegistry::builder().tls().start();
    let gantry = world.gantry(story::BINARY);
    let missing = format!("{}/org/app:1", registry.host());

    gantry.write_file("gantry.yaml", &format!("version: 1\nname: t\nimages: [\"{missing}\"]\n"));
    let refused = format!("{:?}", gantry.run(["lock"]));
    assert!(refused.contains("is not trusted"), "{refused}");

    // The registry answers now, and has no such image.
    let skipped = format!("{:?}", gantry.run(["lock", "--insecure-skip-tls-verify"]));
    assert!(skipped.contains("is not verified"), "{skipped}");
    assert!(!skipped.contains("is not trusted"), "{skipped}");
    let config = format!("insecureSkipTlsVerify: [\"{}\"]\n", registry.host());
    let config = gantry.write_file("config.yaml", &config);
    let arguments = ["lock".to_owned(), "--config".into(), config.display().to_string()];
    let skipped = format!("{:?}", gantry.run(arguments));
    assert!(
        skipped.contains("is not verified") && !skipped.contains("is not trusted"),
        "{skipped}"
    );
}

#[test]
fn a_token_is_sent_without_tls_only_where_the_configuration_says_so() {
    let home = tempfile::tempdir().unwrap();
    let model = home.path().join("model");
    fs::create_dir(&model).unwrap();
    fs::write(model.join("config.json"), "{}").unwrap();
    let hub = TestHub::builder().add_repository("org/m", &model).private().token("geheim").start();
    // This machine by a name that does not say so.
    let stranger = hub.host().replace("127.0.0.1", "0.0.0.0");
    let gantry = story::alone(home.path())
        .env("HF_ENDPOINT", format!("http://{stranger}"))
        .env("HF_TOKEN", "geheim");
    gantry.write_file("gantry.yaml", "version: 1\nname: s\nmodels: [{hf: org/m}]\n");

    let refused = gantry.run(["lock"]).assert_exit_code(2);
    assert!(refused.stderr.contains(&format!("{stranger} is reached by http")), "{refused:?}");
    assert!(refused.stderr.contains("plainHttp") && !refused.stderr.contains("geheim"));
    assert!(!hub.read_log().contains("org/m"), "{}", hub.read_log());

    fs::write(home.path().join("config.yaml"), format!("plainHttp: ['{stranger}']\n")).unwrap();
    gantry.run(["lock"]).assert_success();
    let mirror = format!("mirrors: {{hf: 'http://{stranger}'}}\n");
    fs::write(home.path().join("config.yaml"), mirror).unwrap();
    gantry.run(["lock", "--upgrade"]).assert_success();
}

#[test]
fn results_have_no_secrets_of_the_addresses_in_charts() {
    let home = tempfile::tempdir().unwrap();
    let gantry = story::alone(home.path());
    gantry.write_file("web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n");
    gantry.write_file("web/values.yaml", "image: docker.io/library/nginx:1.25\n");
    gantry.write_file(
        "web/templates/pod.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - name: web\n    \
         image: {{ .Values.image }}\n    env:\n    \
         - {name: A_DSN, value: 'https://geheim-1:geheim-2@hooks.acme-corp.io/1'}\n    \
         - {name: B_URL, value: 'https://api.acme-corp.io/1?token=geheim-3'}\n",
    );
    let mut told = 0;
    for format in ["table", "json"] {
        let arguments = ["relocate", "./web", "--to", "site.example:5000", "--output", format];
        let output = gantry.run(arguments).assert_success();
        told += usize::from(output.stdout.contains("https://api.acme-corp.io/1"));
        let printed = format!("{output:?}");
        assert!(!printed.contains("geheim"), "{printed}");
    }
    assert!(told > 0, "a result names the address");
}
