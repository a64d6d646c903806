#!/usr/bin/env bash
# All tests of the workspace. Those that build network namespaces need root, so every test binary runs through
# as-root.sh; the daemons are built first because the end-to-end tests start them as real processes.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --locked --workspace --bins
runner="CARGO_TARGET_$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')_RUNNER"
export "$runner=$PWD/scripts/as-root.sh"
cargo test --locked --workspace --no-fail-fast "$@"
