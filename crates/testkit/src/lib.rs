//! Real servers and real images for tests
