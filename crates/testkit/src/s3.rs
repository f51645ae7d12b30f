//! An S3 server (moto's, in memory) on a free port, and boto3 as the other client of
//! it: what Gantry put is looked at with Amazon's own library.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use tempfile::TempDir;

use crate::process::ServerProcess;
use crate::tls::TestAuthority;
use crate::tools;

/// The environment of `dev/setup` with moto and boto3.
const VENV: &str = "s3";

/// A running S3 server with one bucket, [`S3Server::BUCKET`]; killed on drop.
#[derive(Debug)]
pub struct S3Server {
    process: ServerProcess,
    host: String,
    authority: Option<TestAuthority>,
    _folder: TempDir,
}

impl S3Server {
    /// The bucket that is there.
    pub const BUCKET: &str = "models";

    /// A server over plain HTTP.
    pub fn start() -> Self {
        Self::start_server(IpAddr::from(Ipv4Addr::LOCALHOST), None)
    }

    /// A server over plain HTTP on this address of the machine: where a cluster's pods reach it.
    pub fn start_at(address: IpAddr) -> Self {
        Self::start_server(address, None)
    }

    /// A server over TLS, with a certificate of a new authority.
    pub fn start_with_tls() -> Self {
        Self::start_server(IpAddr::from(Ipv4Addr::LOCALHOST), Some(TestAuthority::new()))
    }

    /// What `AWS_ENDPOINT_URL` is to be.
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.host)
    }

    /// The authority that signed the server's certificate, when it has one.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.authority.as_ref().map(TestAuthority::ca_file)
    }

    /// One line a request among others.
    pub fn read_log(&self) -> String {
        self.process.output()
    }

    /// Runs a Python script in which `s3` is boto3's client and `bucket` the bucket's name; gives
    /// what it printed.
    pub fn run_boto3(&self, script: &str) -> String {
        let ca = self.ca_file().map_or("None".to_owned(), |file| format!("'{}'", file.display()));
        let script = format!(
            "import boto3, json, os\nbucket = {:?}\ns3 = boto3.client('s3', endpoint_url={:?}, \
             aws_access_key_id='key', aws_secret_access_key='secret', region_name='us-east-1', \
             verify={ca})\n{script}\n",
            Self::BUCKET,
            self.url()
        );
        tools::run_command(tools::tool_command(&python_program()).args(["-c", &script]))
    }

    /// Every object's name and length, sorted.
    pub fn list_objects(&self) -> Vec<(String, u64)> {
        let listed = self.run_boto3(
            "pages = s3.get_paginator('list_objects_v2').paginate(Bucket=bucket)\n\
             print(json.dumps([[o['Key'], o['Size']] for p in pages for o in p.get('Contents', [])]))",
        );
        serde_json::from_str(&listed).expect("the script prints JSON")
    }

    /// The names of objects whose uploads are begun and not completed.
    pub fn list_uploads(&self) -> Vec<String> {
        let listed = self.run_boto3(
            "found = s3.list_multipart_uploads(Bucket=bucket).get('Uploads', [])\n\
             print(json.dumps([u['Key'] for u in found]))",
        );
        serde_json::from_str(&listed).expect("the script prints JSON")
    }

    fn start_server(address: IpAddr, authority: Option<TestAuthority>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut command =
            tools::tool_command(&tools::venv_program(VENV, "moto_server").display().to_string());
        command.args(["-H", &address.to_string(), "-p", "0"]);
        let mut marker = "Running on http://";
        if let Some(authority) = &authority {
            let files = authority.issue_server_certificate(folder.path());
            command.arg("-c").arg(files.certificate).arg("-k").arg(files.key);
            marker = "Running on https://";
        }
        let mut process = ServerProcess::start(&mut command, &folder.path().join("log"));
        let host = process.wait_for_word_after(marker);
        let server = Self { process, host, authority, _folder: folder };
        server.run_boto3("s3.create_bucket(Bucket=bucket)");
        server
    }
}

fn python_program() -> String {
    tools::venv_program(VENV, "python").display().to_string()
}
