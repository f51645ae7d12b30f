//! An S3 server (moto's, in memory) on a free port, and boto3 as the other client of
//! it: what Gantry put is looked at with Amazon's own library.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use tempfile::TempDir;

use crate::process::Process;
use crate::tls::Authority;
use crate::tools;

/// The environment of `dev/setup` with moto and boto3.
const VENV: &str = "s3";

/// A running S3 server with one bucket, [`S3::BUCKET`]; killed on drop.
#[derive(Debug)]
pub struct S3 {
    process: Process,
    host: String,
    authority: Option<Authority>,
    _folder: TempDir,
}

impl S3 {
    /// The bucket that is there.
    pub const BUCKET: &str = "models";

    /// A server over plain HTTP.
    pub fn start() -> Self {
        Self::serve(IpAddr::from(Ipv4Addr::LOCALHOST), None)
    }

    /// A server over plain HTTP on this address of the machine: where a cluster's pods reach it.
    pub fn at(address: IpAddr) -> Self {
        Self::serve(address, None)
    }

    /// A server over TLS, with a certificate of a new authority.
    pub fn tls() -> Self {
        Self::serve(IpAddr::from(Ipv4Addr::LOCALHOST), Some(Authority::new()))
    }

    /// What `AWS_ENDPOINT_URL` is to be.
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.host)
    }

    /// The authority that signed the server's certificate, when it has one.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.authority.as_ref().map(Authority::ca_file)
    }

    /// One line a request among others.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Runs a Python script in which `s3` is boto3's client and `bucket` the bucket's name; gives
    /// what it printed.
    pub fn boto3(&self, script: &str) -> String {
        let ca = self.ca_file().map_or("None".to_owned(), |file| format!("'{}'", file.display()));
        let script = format!(
            "import boto3, json, os\nbucket = {:?}\ns3 = boto3.client('s3', endpoint_url={:?}, \
             aws_access_key_id='key', aws_secret_access_key='secret', region_name='us-east-1', \
             verify={ca})\n{script}\n",
            Self::BUCKET,
            self.url()
        );
        tools::run(tools::command(&python()).args(["-c", &script]))
    }

    /// Every object's name and length, sorted.
    pub fn objects(&self) -> Vec<(String, u64)> {
        let listed = self.boto3(
            "pages = s3.get_paginator('list_objects_v2').paginate(Bucket=bucket)\n\
             print(json.dumps([[o['Key'], o['Size']] for p in pages for o in p.get('Contents', [])]))",
        );
        serde_json::from_str(&listed).expect("the script prints JSON")
    }

    /// The names of objects whose uploads are begun and not completed.
    pub fn uploads(&self) -> Vec<String> {
        let listed = self.boto3(
            "found = s3.list_multipart_uploads(Bucket=bucket).get('Uploads', [])\n\
             print(json.dumps([u['Key'] for u in found]))",
        );
        serde_json::from_str(&listed).expect("the script prints JSON")
    }

    fn serve(address: IpAddr, authority: Option<Authority>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut command = tools::command(&tools::venv(VENV, "moto_server").display().to_string());
        command.args(["-H", &address.to_string(), "-p", "0"]);
        let mut marker = "Running on http://";
        if let Some(authority) = &authority {
            let files = authority.server(folder.path());
            command.arg("-c").arg(files.certificate).arg("-k").arg(files.key);
            marker = "Running on https://";
        }
        let mut process = Process::start(&mut command, &folder.path().join("log"));
        let host = process.word_after(marker);
        let server = Self { process, host, authority, _folder: folder };
        server.boto3("s3.create_bucket(Bucket=bucket)");
        server
    }
}

fn python() -> String {
    tools::venv(VENV, "python").display().to_string()
}
