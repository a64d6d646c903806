#!/usr/bin/env bash
# Runs a command as root: directly when we are, through sudo otherwise. Namespaces and nftables need it.
set -eu
if [ "$(id -u)" -eq 0 ]; then exec "$@"; fi
command -v sudo >/dev/null || { echo "this needs root: run it as root, or install sudo" >&2; exit 1; }
exec sudo --preserve-env=CI,NETGUARD_DATA,NETGUARD_LAB_BIN,RUST_LOG,RUST_BACKTRACE,CARGO_MANIFEST_DIR,CARGO_TARGET_TMPDIR "$@"
