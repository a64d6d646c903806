#!/usr/bin/env bash
# Fuzzes targets, one after the other and bounded: scripts/fuzz.sh [SECONDS] [TARGET…], a minute each and all of them unless
# said otherwise. What is found lies in fuzz/artifacts/TARGET; corpora grow in FUZZ_CORPUS/TARGET, fuzz/corpus unless said
# otherwise, and stay on this machine. Words that chance does not find stand in fuzz/dictionaries/TARGET.dict.
# Needs rustup, by which it installs a nightly toolchain, and a C++ compiler. Without a sanitizer: no target runs unsafe code, and panics are found
# several times faster.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=60
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then
    seconds=$1
    shift
fi
if ! rustc +nightly --version >/dev/null 2>&1; then
    rustup toolchain install nightly --profile minimal
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    cargo install cargo-fuzz --locked --version 0.13.2
fi
mapfile -t known < <(cargo fuzz list)
# A target that nobody lists would be run by nobody.
for file in fuzz/fuzz_targets/*.rs; do
    if [[ " ${known[*]} " != *" $(basename "$file" .rs) "* ]]; then
        echo "$file is no [[bin]] of fuzz/Cargo.toml" >&2
        exit 2
    fi
done
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    targets=("${known[@]}")
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
corpora=$(realpath --canonicalize-missing "${FUZZ_CORPUS:-fuzz/corpus}")
found=()
for target in "${targets[@]}"; do
    echo "== $target: $seconds s"
    corpus="$corpora/$target"
    mkdir -p "$corpus"
    # A frame is at most 64 KiB; an input that takes 5 s or a GiB is a finding.
    options=(-max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1)
    dictionary="$PWD/fuzz/dictionaries/$target.dict"
    if [ -f "$dictionary" ]; then
        options+=(-dict="$dictionary")
    fi
    if ! cargo +nightly fuzz run --sanitizer none "$target" "$corpus" -- "${options[@]}" >"$log" 2>&1; then
        found+=("$target")
        # What it was, and where it lies; the end alone is a stack of libFuzzer's.
        grep -A 1 -E 'panicked at|ERROR: libFuzzer|Test unit written|^error' "$log" || true
    fi
    tail -n 6 "$log"
done
if [ ${#found[@]} -gt 0 ]; then
    echo "findings: ${found[*]}; see fuzz/artifacts" >&2
    exit 1
fi
