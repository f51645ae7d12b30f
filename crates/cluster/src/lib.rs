//! One Kubernetes cluster.
