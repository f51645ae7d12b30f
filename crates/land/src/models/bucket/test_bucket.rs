//! A bucket in memory, for tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use object_store::memory::InMemory;
use tokio::runtime::Runtime;
use types::destination::{Bucket, BucketProtocol};

use super::ModelBucket;

/// An empty bucket `s3://b/p`, and the runtime that it runs on.
pub(super) fn make_bucket() -> (ModelBucket, Runtime) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = Bucket { cloud: BucketProtocol::S3, name: "b".into(), prefix: "p".into() };
    let bucket = ModelBucket {
        server: Arc::new(InMemory::new()),
        address: Arc::new(address),
        runtime: runtime.handle().clone(),
        bandwidth: None,
    };
    (bucket, runtime)
}
