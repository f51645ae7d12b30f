//! Content to its targets
