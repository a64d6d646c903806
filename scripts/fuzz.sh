#!/usr/bin/env bash
# Fuzzes targets, one after the other and bounded: scripts/fuzz.sh [SECONDS] [TARGET…], a minute each and all of them unless
# said otherwise. What is found lies in fuzz/artifacts/TARGET; corpora grow in fuzz/corpus/TARGET and stay on this machine.
# Needs a nightly toolchain and a C++ compiler. Without a sanitizer: no target runs unsafe code, and panics are found
# several times faster.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=60
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then
    seconds=$1
    shift
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    cargo install cargo-fuzz --locked --version 0.13.2
fi
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <(cargo fuzz list)
fi
found=()
for target in "${targets[@]}"; do
    echo "== $target: $seconds s"
    # A frame is at most 64 KiB; an input that takes 5 s or a GiB is a finding.
    cargo +nightly fuzz run --sanitizer none "$target" -- \
        -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 \
        2>&1 | tail -n 12 || found+=("$target")
done
if [ ${#found[@]} -gt 0 ]; then
    echo "findings: ${found[*]}; see fuzz/artifacts" >&2
    exit 1
fi
