# The two commands of the README, and what developers run between them.
.PHONY: demo test test-cluster test-fast build setup lint bench book cluster-up cluster-down

# Sets up what it needs, builds, runs the main job on the embedded default.
demo:
	dev/setup demo
	cargo build --release --package gantry-cli --package gantry-testkit
	examples/demo.sh

# Sets up what the tests need, runs all of them.
test:
	dev/setup test
	dev/run-tests

# What needs a real Kubernetes: starts one (root; see docs/development/cluster.md), runs those tests, takes it away.
test-cluster:
	dev/setup test
	dev/setup cluster
	dev/test-cluster

# The tests that need no slow image set: seconds, for every save.
test-fast:
	dev/setup test
	dev/run-tests fast

build:
	cargo build --release --package gantry-cli

setup:
	dev/setup all

lint:
	cargo fmt --all --check
	cargo lint layers
	cargo clippy --workspace --all-targets --all-features -- -D warnings

# Side by side with skopeo, crane, regctl and cp: writes docs/explanation/benchmarks.md.
bench:
	dev/setup test
	cargo xtask bench

# The documentation: target/book/index.html, with all links checked.
book:
	dev/setup book
	dev/build-book

# A real Kubernetes on this machine, for tests and for looking around; needs root. See docs/development/cluster.md.
cluster-up:
	dev/setup cluster
	dev/cluster up

cluster-down:
	dev/cluster down
