//! The Hugging Face Hub.

mod filter;

pub use filter::Filter;
