#!/usr/bin/env bash
# Installs the OS packages that this definition needs; run as root when the image is built.
set -euo pipefail

pkgs="libgomp1"

missing=()
for pkg in $pkgs; do
    dpkg --status "$pkg" >/dev/null 2>&1 || missing+=("$pkg")
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "Not installed: ${missing[*]}. Run this as root on Debian or Ubuntu, or install the like by hand." >&2
    exit 1
fi
apt-get update --quiet
apt-get install --quiet --yes --no-install-recommends "${missing[@]}"
