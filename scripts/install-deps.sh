#!/usr/bin/env bash
# Installs the Debian packages named as arguments that this machine lacks, with sudo where not root.
#
#     scripts/install-deps.sh libhwloc-dev libnuma-dev pkg-config wrk curl
#
# Nothing lacks: prints nothing, needs neither network nor root. What counts is what works (pkg-config finds the
# library, the command is there), not who installed it; so a machine without apt-get goes on if it has the libraries.
set -euo pipefail

# lacks PACKAGE: true unless what the package is needed for is here already.
lacks() {
    case $1 in
    libhwloc-dev) ! pkg-config --exists hwloc 2>/dev/null ;;
    libnuma-dev) ! pkg-config --exists numa 2>/dev/null ;;
    libdw1) ! PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | grep 'libdw\.so\.1' >/dev/null ;;
    pkg-config | wrk | curl | cpio) ! command -v "$1" >/dev/null 2>&1 ;;
    qemu-system-x86) ! command -v qemu-system-x86_64 >/dev/null 2>&1 ;;
    binutils) ! command -v strip >/dev/null 2>&1 ;;
    erlang-base) ! command -v escript >/dev/null 2>&1 ;;
    *) ! dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed ;;
    esac
}

missing=()
for package in "$@"; do
    if lacks "$package"; then missing+=("$package"); fi
done
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi

if ! command -v apt-get >/dev/null 2>&1; then
    echo "deps: no apt-get on this machine; install what provides these yourself: ${missing[*]}" \
        "(libraries hwloc and numa as pkg-config finds them, commands by their name)" >&2
    exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "deps: needs root: run 'apt-get install ${missing[*]}' as root (there is no sudo here)" >&2
        exit 1
    fi
    as_root=(sudo)
    # Without a terminal nobody can answer sudo's question: fail instead of waiting.
    if ! [ -t 0 ]; then as_root+=(-n); fi
fi

echo "deps: installing ${missing[*]}${as_root[0]:+ (with sudo)}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
    if ! ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1; then
        cat "$log" >&2
        return 1
    fi
}
# An index that cannot be refreshed is no reason to stop: the one at hand may do.
apt update || echo "deps: apt-get update failed; trying with the package lists at hand" >&2
if ! apt install -y --no-install-recommends "${missing[@]}"; then
    echo "deps: could not install ${missing[*]}" >&2
    exit 1
fi

for package in "${missing[@]}"; do
    if lacks "$package"; then
        echo "deps: $package is installed, but what it provides is still not found" >&2
        exit 1
    fi
done
