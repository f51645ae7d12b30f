//! The one HTTP client and the one server shell
