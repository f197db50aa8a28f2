#!/usr/bin/env bash
# Looks for inputs that break what parses and plans: the property tests, with FUZZ_CASES cases each instead of hundreds.
# Coverage guidance (cargo-fuzz) needs a nightly compiler, which this project does not ask for.
set -euo pipefail
cd "$(dirname "$0")/.."
export PROPTEST_CASES=${FUZZ_CASES:-20000}
echo "property tests with $PROPTEST_CASES cases each, without coverage guidance"
cargo test --locked --release --lib -- panics converge any_bytes
cargo test --locked --release --test spec -- hostile
