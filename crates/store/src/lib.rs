//! The content-addressed store, and the Source and Sink traits
