//! Servers with certificates of every kind, and what a client shows them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use gantry_net::serve::{ListenConfig, RunningServer, TlsFiles, start_server};
use gantry_net::{Client, ClientBuilder, Error, HttpRequest, RepeatPolicy, UncheckedHosts};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use testkit::{TestAuthority, TestRegistry};
use types::ClientCertificate;

use crate::common::hasty;

/// A certificate as `openssl req -x509` makes it: self-signed, and that of an authority.
fn self_signed(folder: &Path, names: &str) -> TlsFiles {
    let (certificate, key) = (folder.join("c.pem"), folder.join("k.pem"));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"])
        .args(["-subj", "/CN=registry", "-addext", &format!("subjectAltName={names}")])
        .args(["-addext", "basicConstraints=critical,CA:TRUE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    TlsFiles { certificate, key }
}

async fn serve_over(tls: TlsFiles) -> RunningServer {
    let config = ListenConfig { listen: "127.0.0.1:0".parse().unwrap(), tls: Some(tls) };
    let router = Router::new().route("/", get(|| async { "hello" }));
    start_server(&config, router).await.unwrap()
}

async fn get_status(builder: ClientBuilder, url: &str) -> Result<u16, Error> {
    let client = builder.build().unwrap();
    let request = HttpRequest::get(url).unwrap();
    let response = client.send(&request, RepeatPolicy::Safe).await?;
    Ok(response.status().as_u16())
}

/// A client of which only the test's own settings count.
fn plain() -> ClientBuilder {
    hasty().certificate_folders(Vec::new())
}

#[tokio::test]
async fn a_self_signed_certificate_of_an_authority_is_taken_when_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let files = self_signed(folder.path(), "IP:127.0.0.1,DNS:localhost");
    let ca = files.certificate.clone();
    let running = serve_over(files).await;
    let url = format!("https://127.0.0.1:{}/", running.address().port());

    assert_eq!(get_status(plain().ca_files([ca]), &url).await.unwrap(), 200);
    let error = get_status(plain(), &url).await.unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error}");
}

#[tokio::test]
async fn a_given_certificate_of_another_name_or_another_one_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (folder.path().join("own"), folder.path().join("other"));
    for path in [&own, &other] {
        std::fs::create_dir(path).unwrap();
    }
    let files = self_signed(&own, "DNS:registry.corp");
    let other = self_signed(&other, "IP:127.0.0.1");
    let (ca, other_ca) = (files.certificate.clone(), other.certificate);
    let running = serve_over(files).await;
    let url = format!("https://127.0.0.1:{}/", running.address().port());

    for ca in [ca, other_ca] {
        let error = get_status(plain().ca_files([ca]), &url).await.unwrap_err();
        assert!(matches!(error, Error::Untrusted { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_is_not_checked_for_the_hosts_that_are_named_alone() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), TestAuthority::new());
    let files = authority.issue_server_certificate(folder.path());
    let running = serve_over(TlsFiles { certificate: files.certificate, key: files.key }).await;
    let host = format!("127.0.0.1:{}", running.address().port());
    let url = format!("https://{host}/");

    let named = plain().unchecked_hosts(UncheckedHosts::Some(vec![host]));
    assert_eq!(get_status(named, &url).await.unwrap(), 200);
    assert_eq!(get_status(plain().unchecked_hosts(UncheckedHosts::All), &url).await.unwrap(), 200);
    let other = plain().unchecked_hosts(UncheckedHosts::Some(vec!["127.0.0.1:1".into()]));
    assert!(matches!(get_status(other, &url).await, Err(Error::Untrusted { .. })));
}

#[tokio::test]
async fn a_server_on_this_machine_is_reached_by_tls_when_it_speaks_that() {
    // Go answers http there with a 400, rustls and OpenSSL end the connection.
    let registry = TestRegistry::builder().tls().start();
    let ca = registry.ca_file().unwrap();
    let url = format!("http://{}/v2/", registry.host());
    assert_eq!(get_status(plain().ca_files([ca]), &url).await.unwrap(), 200);

    let (folder, authority) = (tempfile::tempdir().unwrap(), TestAuthority::new());
    let files = authority.issue_server_certificate(folder.path());
    let running = serve_over(TlsFiles { certificate: files.certificate, key: files.key }).await;
    let url = format!("http://127.0.0.1:{}/", running.address().port());
    assert_eq!(get_status(plain().ca_files([authority.ca_file()]), &url).await.unwrap(), 200);
    let error = get_status(plain(), &url).await.unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error}");

    let config = ListenConfig { listen: "127.0.0.1:0".parse().unwrap(), tls: None };
    let running = start_server(&config, Router::new()).await.unwrap();
    let url = format!("http://127.0.0.1:{}/nothing", running.address().port());
    assert_eq!(get_status(plain(), &url).await.unwrap(), 404);
}

/// A server that answers those who show a certificate of an authority, over any number of connections.
fn serve_known_clients(authority: &TestAuthority, folder: &Path) -> SocketAddr {
    let files = authority.issue_server_certificate(folder);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.ca_file()).unwrap()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        roots.into(),
        Arc::clone(&provider),
    );
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            CertificateDer::pem_file_iter(&files.certificate)
                .unwrap()
                .map(Result::unwrap)
                .collect(),
            PrivateKeyDer::from_pem_file(&files.key).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let mut request = [0; 4096];
            // An error is a client without a certificate.
            if stream.read(&mut request).is_ok() {
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    address
}

#[tokio::test]
async fn a_client_shows_its_certificate_by_option_or_from_docker_s_and_containerd_s_folders() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), TestAuthority::new());
    let address = serve_known_clients(&authority, folder.path());
    let (host, url) = (address.to_string(), format!("https://{address}/"));
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let client = authority.issue_server_certificate(&own);
    let files = ClientCertificate { certificate: client.certificate, key: client.key };

    let given = plain().ca_files([authority.ca_file()]).client_certificate(&host, files.clone());
    assert_eq!(get_status(given, &url).await.unwrap(), 200);
    assert!(get_status(plain().ca_files([authority.ca_file()]), &url).await.is_err());

    let docker = folder.path().join("docker");
    std::fs::create_dir_all(docker.join(&host)).unwrap();
    for (from, to) in [
        (&authority.ca_file(), "ca.crt"),
        (&files.certificate, "client.cert"),
        (&files.key, "client.key"),
    ] {
        std::fs::copy(from, docker.join(&host).join(to)).unwrap();
    }
    assert_eq!(get_status(hasty().certificate_folders(vec![docker]), &url).await.unwrap(), 200);

    let containerd = folder.path().join("containerd");
    std::fs::create_dir_all(containerd.join(&host)).unwrap();
    let hosts = format!(
        "server = \"{url}\"\nca = {:?}\nclient = [[{:?}, {:?}]]\n",
        authority.ca_file(),
        files.certificate,
        files.key
    );
    std::fs::write(containerd.join(&host).join("hosts.toml"), hosts).unwrap();
    let builder = hasty().certificate_folders(vec![containerd]);
    assert_eq!(get_status(builder, &url).await.unwrap(), 200);
}

#[tokio::test]
async fn an_unusable_certificate_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("127.0.0.1:1")).unwrap();
    std::fs::write(folder.path().join("127.0.0.1:1/ca.crt"), "no PEM").unwrap();
    let builder = hasty().certificate_folders(vec![PathBuf::from(folder.path())]);

    let error = get_status(builder, "https://127.0.0.1:1/").await.unwrap_err();

    assert!(matches!(&error, Error::Tls { path, .. } if path.ends_with("ca.crt")), "{error}");
}

#[tokio::test]
async fn an_answer_may_begin_late() {
    let router = Router::new().route(
        "/",
        get(|| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            "late"
        }),
    );
    let config = ListenConfig { listen: "127.0.0.1:0".parse().unwrap(), tls: None };
    let running = start_server(&config, router).await.unwrap();
    let url = format!("http://{}/", running.address());
    let once = gantry_net::RetryPolicy { attempts: 1, ..Default::default() };
    let builder = Client::builder().retry(once).idle_timeout(Duration::from_millis(200));

    assert_eq!(get_status(builder, &url).await.unwrap(), 200);
}
