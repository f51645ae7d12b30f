# The two commands of the README, and what developers run between them.
.PHONY: demo test test-cluster test-fast test-hard test-laws test-stress build setup lint bench book cluster-up cluster-down

# Sets up what it needs, builds, runs the main job on the embedded default. The build is that of the
# tests: a fraction of the time that `make build` takes, and nothing is compiled again for `make test`.
demo:
	dev/setup demo
	cargo build --bin gantry --bin testkit
	examples/demo.sh

# Sets up what the tests need, runs all of them.
test:
	dev/setup test
	dev/run-tests

# What needs a real Kubernetes: starts one of two nodes (root; see docs/development/cluster.md), runs those
# tests, takes it away.
test-cluster:
	dev/setup test
	dev/setup cluster
	dev/test-cluster

# The tests that need no slow image set: seconds, for every save.
test-fast:
	dev/setup test
	dev/run-tests fast

# Each command that moves content is killed 50 times and must go on where it was: before a release.
test-hard:
	dev/setup test
	dev/test-hard

# What the post-renderer changes on ten million generated streams, odd YAML beside helm, and charts with many ways to name
# images at once: before a release. `make test-laws RUNS=100000 SEED=2` is another part of it.
RUNS = 10000000
SEED = 1
test-laws:
	dev/setup test
	dev/test-laws $(RUNS) $(SEED)

# All tests ten times beside four busy processes, as on a slow machine (root): before a release. Not in
# CI, it takes hours. `make test-stress ROUNDS=3 TESTS=fast` is a part of it, see dev/test-stress.
ROUNDS = 10
TESTS = all
test-stress:
	dev/setup test
	dev/test-stress $(ROUNDS) $(TESTS)

# The optimised command, as a release has it: target/release/gantry.
build:
	cargo build --release --package gantry-cli

setup:
	dev/setup all

lint:
	cargo fmt --all --check
	cargo lint layers
	dev/lint-rust

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
	dev/cluster up 2

cluster-down:
	dev/cluster down
