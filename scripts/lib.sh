# Shared by the scripts here. Sourced, not run.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/varvel
# Outside the checkout, so that a fresh clone does not build everything again.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
worker_target=$cache/target-llm-worker

say() { printf '\n\033[1m== %s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The system packages that building needs and that are not here.
missing_packages() {
    local need=()
    command -v cc >/dev/null || need+=(gcc)
    command -v c++ >/dev/null || need+=(g++)
    command -v make >/dev/null || need+=(make)
    command -v cmake >/dev/null || need+=(cmake)
    command -v clang >/dev/null || need+=(clang)
    command -v pkg-config >/dev/null || need+=(pkg-config)
    command -v python3 >/dev/null || need+=(python3)
    command -v git >/dev/null || need+=(git)
    # bindgen loads it at build time.
    compgen -G '/usr/lib/llvm*/lib/libclang*.so*' >/dev/null || compgen -G '/usr/lib/*/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib*/libclang*.so*' >/dev/null || need+=(libclang-dev)
    python3 -m pip --version >/dev/null 2>&1 || need+=(python3-pip)
    if [ $# -gt 0 ]; then need+=("$@"); fi
    printf '%s\n' "${need[@]:-}"
}

# Installs what is missing: named first, and asked for unless $1 is --yes.
install_packages() {
    local answer need
    mapfile -t need < <(missing_packages "${@:2}" | sed '/^$/d')
    [ ${#need[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "these are missing, and this is not a Debian system: ${need[*]}"
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    if [ "$1" != --yes ]; then
        printf 'To be installed with apt-get: %s\nGo on? [y/N] ' "${need[*]}"
        read -r answer
        [ "$answer" = y ] || fail "not without: ${need[*]}"
    fi
    "${sudo[@]}" apt-get update -q >/dev/null
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${need[@]}" >/dev/null
}

need_rust() {
    command -v cargo >/dev/null || fail "Rust is missing; install it as https://rustup.rs says, then run this again"
}

# Runs cargo in the worker's own directory, whose .cargo/config.toml names the processor features.
worker_cargo() {
    (cd "$root/crates/llm-worker" && CARGO_TARGET_DIR=$worker_target cargo "$@")
}
