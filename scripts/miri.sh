#!/usr/bin/env bash
# Runs under Miri what it can run of the capture ring: the shared memory without a kernel, and everything that reads a
# block. Needs a nightly toolchain with the components miri and rust-src.
set -eu
cd "$(dirname "$0")/.."
rustup +nightly component add miri rust-src >/dev/null
# Proptest reads its seeds from disk and needs few cases here: Miri is some hundred times slower.
export PROPTEST_CASES="${PROPTEST_CASES:-16}"
export MIRIFLAGS="${MIRIFLAGS:--Zmiri-disable-isolation -Zmiri-strict-provenance}"
exec cargo +nightly miri test --locked -p netguard-sensor --lib -- \
    capture::ring::block capture::ring::sys capture::ring::tests capture::budget capture::loss
