//! A kind as the cluster serves it.

use kube::core::ApiResource;

/// A kind with its name in the API.
#[derive(Clone)]
pub(crate) struct ResolvedKind {
    pub(crate) resource: ApiResource,
    pub(crate) is_namespaced: bool,
}
