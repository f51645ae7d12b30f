//! Volumes: what crosses the gap
