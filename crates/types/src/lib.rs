//! References, digests, platforms, input, lock, site, receipt: parse and print
