# Sourced by xtask/dev, xtask/test and .ci/run: brings a Debian 12 machine to where the project builds.
#
# Owns: which packages are needed, which Rust is used, where the build is kept.
# Never writes into the checkout, never asks a question, does nothing a second time.
#
#   FOREBAY_CACHE   build, fetched data and tools (default ~/.cache/forebay); may be deleted at any time
#   CARGO_TARGET_DIR, CC, CXX   respected where they are set

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export FOREBAY_CACHE="${FOREBAY_CACHE:-$HOME/.cache/forebay}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$FOREBAY_CACHE/target}"
export DEBIAN_FRONTEND=noninteractive
RUST_NEEDED=95 # as in 1.95: rust-version in Cargo.toml

say() { printf '\n\033[1m==>\033[0m %s\n' "$*" >&2; }
fail() { printf '\nforebay: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        fail "installing packages needs root or sudo: run this as root once, or install them yourself: $*"
    fi
}

# Installs those of the named Debian packages that are missing.
packages() {
    local missing=() package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    command -v apt-get >/dev/null || fail "this machine has no apt-get: install what corresponds to: ${missing[*]}"
    say "installing Debian packages: ${missing[*]}"
    as_root apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null 2>&1 && return
    as_root apt-get update -q
    as_root apt-get install -y -q --no-install-recommends "${missing[@]}"
}

# True where the `cargo` on PATH is new enough and works in this checkout (rustup may lack the pinned toolchain).
rust_is_good() {
    local minor
    minor=$(cargo --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')
    [ -n "$minor" ] && [ "$minor" -ge "$RUST_NEEDED" ] && rustc --version >/dev/null 2>&1
}

# A C++ compiler for RocksDB (see xtask/c++), libclang for its bindings, ccache so that they are compiled once. Debian's Rust
# with its sources builds the guests where rustup has no wasm32 target, and everything where there is no rustup.
system_packages() {
    packages ca-certificates ccache clang g++ git libc6-dev libclang-dev lld make pkg-config python3 python3-pip \
        cargo-web rust-web-src rustc-web libssl-dev zlib1g-dev
}

# Kafka for the tests that claim something about it. Where it cannot be had they say that they are skipped.
kafka_packages() {
    local java
    java=$(java -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java.specification.version = \([0-9]*\)$/\1/p' || true)
    [ "${java:-0}" -ge 17 ] || (packages default-jdk-headless) || say "no Java 17 or newer: tests on Kafka will be skipped"
    command -v mvn >/dev/null || (packages maven) || say "no Maven: tests on Kafka will be skipped"
}

choose_rust() {
    [ -d "$HOME/.cargo/bin" ] && export PATH="$HOME/.cargo/bin:$PATH"
    rust_is_good && return
    # Debian's, past any rustup that cannot serve this checkout. New ones come with its security updates, which the package
    # lists of a fresh machine may not know yet.
    export PATH="/usr/bin:$PATH"
    rust_is_good && return
    if command -v apt-get >/dev/null; then
        say "Debian's Rust on this machine is too old: updating it"
        as_root apt-get update -q >/dev/null
        as_root apt-get install -y -q --no-install-recommends cargo-web rust-web-src rustc-web >/dev/null
    fi
    rust_is_good || fail "no Rust 1.$RUST_NEEDED or newer: 'cargo --version' says '$(cargo --version 2>&1 | head -1)'; \
Debian 12 has it in its security updates (bookworm-security in /etc/apt/sources.list), everywhere else https://rustup.rs has it"
}

# The compilers' names are part of what cargo compares: they must be the same for every checkout.
choose_compiler() {
    install -C -m 755 xtask/c++ "$FOREBAY_CACHE/c++"
    export CXX="${CXX:-$FOREBAY_CACHE/c++}"
    command -v ccache >/dev/null && export CC="${CC:-ccache cc}"
    return 0
}

setup() {
    mkdir -p "$FOREBAY_CACHE"
    system_packages
    choose_rust
    choose_compiler
    say "building with $(rustc --version | cut -d' ' -f1,2), kept in $CARGO_TARGET_DIR"
    if [ ! -e "$CARGO_TARGET_DIR/release/forebay" ]; then
        printf '    A first build compiles RocksDB and wasmtime: 15 to 20 minutes on two cores, seconds from then on.\n' >&2
    fi
}

# Fetches Kafka's jars in the background, by a chore that is built before all else. Who needs them waits for it.
fetch_kafka() {
    kafka_packages
    cargo build --release --locked --package xtask
    "$CARGO_TARGET_DIR/release/xtask" kafka fetch || say "no Kafka: tests on it will be skipped" &
}

# Everything that both commands run: the binaries that the arguments choose (`--bin NAME` or `--bins`), and the example and
# test modules as WebAssembly, which are compiled beside them.
build() {
    local progress=() log guests
    [ -e "$CARGO_TARGET_DIR/release/forebay" ] || progress=(xtask/progress.py)
    # All of the workspace is named, so that cargo chooses the same features whatever is built.
    "${progress[@]}" cargo build --release --locked --workspace --bin xtask
    log=$(mktemp)
    "$CARGO_TARGET_DIR/release/xtask" guests >"$log" 2>&1 & guests=$!
    "${progress[@]}" cargo build --release --locked --workspace "$@"
    say "building the guests (examples and test modules) as WebAssembly"
    if ! wait "$guests"; then cat "$log" >&2; rm -f "$log"; fail "the guests could not be built"; fi
    grep '^guests: ' "$log" || true
    rm -f "$log"
}
