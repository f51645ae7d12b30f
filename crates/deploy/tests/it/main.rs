//! The integration tests of releases and checks that need no cluster. One binary for all: each more would be linked anew.

mod check_page;
