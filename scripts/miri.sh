#!/usr/bin/env bash
# Runs under Miri what it can run of the capture ring: all unsafe code that needs no socket, and the reading of blocks.
# Needs rustup, by which it installs a nightly toolchain and its components miri and rust-src.
#
# Left out: `Ring` itself, whose socket, options and mapping of it Miri does not have (sensor/tests/ring.rs runs them
# against a real kernel), and the rest of the sensor, which has no unsafe code: Miri would say nothing that its tests do not.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! rustc +nightly --version >/dev/null 2>&1; then
    rustup toolchain install nightly --profile minimal
fi
if ! rustup +nightly component add miri rust-src; then
    echo "scripts/miri.sh: this nightly has no miri, or static.rust-lang.org cannot be reached; nothing was run" >&2
    exit 1
fi
# Miri is some hundred times slower.
export PROPTEST_CASES="${PROPTEST_CASES:-16}"
flags="${MIRIFLAGS:--Zmiri-disable-isolation -Zmiri-strict-provenance}"
# A hang is a finding too: a warm run takes a minute.
minutes="${MIRI_MINUTES:-30}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
miri() {
    MIRIFLAGS="$flags $1" timeout --verbose "${minutes}m" \
        cargo +nightly miri test --locked -p netguard-sensor --lib -- "${@:2}" 2>&1 | tee "$log"
    # A name that fits no test any more is no success.
    if ! grep -q ' [1-9][0-9]* passed;' "$log"; then
        echo "scripts/miri.sh: no test is named ${*:2}" >&2
        return 1
    fi
}
miri "" capture::ring::
# One interleaving of two threads says little: sixteen, each from a seed of its own.
miri "-Zmiri-many-seeds=0..16" --exact capture::ring::sys::tests::a_block_is_read_whole_while_others_are_written
