//! The integration tests of the audit's parts that need no cluster. One binary for all: each more would be linked anew.

mod corefile;
mod report_page;
mod sink;
