# The two commands: `make demo` and `make test`. Both install what is missing.

SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)
STACK := target/release/stack
PREFIX ?= /usr/local

.PHONY: demo check test vm bench fuzz install build rust packages

demo: rust ## Builds, runs the first example, shows its page, takes it down.
	@examples/need.sh build-essential busybox-static
	cargo build --release --locked
	examples/demo.sh "$(CURDIR)/$(STACK)"

check: rust ## Lints and pure tests: under a minute when warm.
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --quiet --lib -- --skip kernel
	cargo test --locked --quiet --test layering

test: rust packages ## Everything.
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo build --release --locked
	tests/run.sh

vm: rust ## What this machine cannot show, in a virtual machine (QEMU, no KVM): cgroups v2, systemd, Linux 6.1, reboots.
	@examples/need.sh build-essential mmdebstrap e2fsprogs qemu-system-x86 qemu-utils
	cargo build --release --locked
	cargo test --locked --no-run --lib --test kernel_monitor
	tests/vm/run.sh "$(CURDIR)/$(STACK)" lib kernel_monitor

bench: rust packages ## The budget table of the design, beside PEER="… docker compose" where it is named.
	cargo build --release --locked
	tests/bench/run.sh "$(CURDIR)/$(STACK)"

fuzz: rust packages ## Every fuzz target for FUZZ_SECONDS (600), then the property tests with many cases (FUZZ_CASES).
	tests/fuzz.sh

install: rust ## Puts the binary beneath $(PREFIX)/bin.
	cargo build --release --locked
	install -Dm755 $(STACK) $(DESTDIR)$(PREFIX)/bin/stack

build: rust
	cargo build --release --locked

rust:
	@command -v cargo >/dev/null || { echo 'Rust is missing. Install it, then run make again:'; \
	  echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"; exit 1; }

packages:
	@examples/need.sh build-essential busybox-static mmdebstrap docker-registry skopeo nftables iptables iproute2 curl \
	  procps git strace python3 python3-jsonschema apache2-utils openssl openssh-client zstd xz-utils bzip2
