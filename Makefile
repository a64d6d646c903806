# Two commands for users: `make demo`, `make test`. Two for developers: `make verify` only reads, `make fix` changes.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CARGO ?= cargo
CARGO_DENY_VERSION := 0.20.2
DEMO_ARGS ?= --enforce
export CARGO_TERM_COLOR ?= never

.PHONY: help demo test verify fix setup-test setup-deny

help:
	@echo "make demo    a fleet in network namespaces, real attacks, real blocks (root or sudo)"
	@echo "make test    everything the gate checks, with all the set-up it needs (root or sudo)"
	@echo "make verify  format, lints, docs, dependency policy, fuzz targets: changes nothing"
	@echo "make fix     format and apply what the lints can apply"

demo:
	$(CARGO) build --locked --release -p netguard-lab -p netguard-sensor -p netguard-coordinator -p netguard-responder -p netguard-admin
	scripts/install-tools.sh
	scripts/as-root.sh target/release/netguard-lab demo $(DEMO_ARGS)

test: setup-test verify
	scripts/test.sh

verify: setup-deny
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	scripts/deny.sh
	$(CARGO) check --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz

fix:
	$(CARGO) fmt --all
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged

setup-test:
	scripts/install-tools.sh

setup-deny:
	@command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --locked --version $(CARGO_DENY_VERSION)
