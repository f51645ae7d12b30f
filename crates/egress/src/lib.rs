//! What would leave the cluster, and what tried to.
