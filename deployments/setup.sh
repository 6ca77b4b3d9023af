#!/usr/bin/env bash
# Creates .venv with the locked dependencies, and installs the browser and fonts that print reports. With "node": only
# Node.js for the tests' STOMP clients; with "browser": only browser and fonts; with "browser needed" it fails without.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
die() { say "greenroom: $1"; say "  $2"; exit 1; }
root_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }
install() {
    say "Installing $* from the system's packages …"
    apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

if [ "${1:-}" = node ]; then
    if ! command -v npm >/dev/null; then
        if root_apt; then install nodejs npm; else
            die "the tests drive real STOMP clients, which need Node.js and npm." \
                "Debian, Ubuntu: sudo apt-get install nodejs npm    macOS: brew install node"
        fi
    fi
    exit 0
fi

has_browser() {
    local path=${GREENROOM_BROWSER_PATH:-${BROWSER_PATH:-}} name
    [ -z "$path" ] || return 0  # whether it can be run is checked by: greenroom check
    [ ! -x /usr/lib/chromium/chromium-headless-shell ] || return 0
    for name in chromium-headless-shell chrome-headless-shell; do ! command -v $name >/dev/null || return 0; done
    [ -x .venv/bin/python ] && .venv/bin/python -c 'import sys
from dispatcher.reports.pdf.find_browser import find_browser
sys.exit(find_browser() is None)' 2>/dev/null
}
has_font() {
    if command -v fc-list >/dev/null; then [ -n "$(fc-list "$2" family)" ]; else dpkg -s "$1" >/dev/null 2>&1; fi
}
available() { case "$(apt-cache policy "$1" 2>/dev/null)" in *"Candidate: "[0-9]*) ;; *) false ;; esac; }

install_browser() {
    local missing=()
    has_browser || missing+=(chromium-headless-shell)
    has_font fonts-noto-core 'Noto Sans' || missing+=(fonts-noto-core)
    has_font fonts-noto-cjk 'Noto Sans CJK SC' || missing+=(fonts-noto-cjk)
    has_font fonts-noto-color-emoji 'Noto Color Emoji' || missing+=(fonts-noto-color-emoji)
    [ ${#missing[@]} -gt 0 ] || return 0
    # Once: a machine without a network must not wait for it at every start.
    if root_apt && { [ "${1:-}" = needed ] || [ ! -e .venv/.browser-install-tried ]; }; then
        touch .venv/.browser-install-tried
        apt-get update -qq >/dev/null || true
        local package got=()
        for package in "${missing[@]}"; do
            if available "$package"; then got+=("$package"); fi
        done
        if [ ${#got[@]} -gt 0 ] && install "${got[@]}" && [ ${#got[@]} -eq ${#missing[@]} ]; then return 0; fi
    fi
    if has_browser; then
        say "greenroom: reports may lack letters of some scripts; fonts are missing (${missing[*]})."
    else
        say "greenroom: reports as PDF are unavailable until a browser is installed."
    fi
    say "  Debian: sudo apt-get install ${missing[*]}"
    say "  macOS: brew install --cask chromium font-noto-sans font-noto-sans-cjk-sc font-noto-color-emoji"
    say "  elsewhere: .venv/bin/choreo_get_chrome, or set GREENROOM_BROWSER_PATH to a Chromium that is not a snap"
    has_browser
}

if [ "${1:-}" = browser ]; then
    install_browser "${2:-}" || [ "${2:-}" != needed ]
    exit
fi

python=${PYTHON:-}
for name in python3 python3.13 python3.12 python3.11; do
    [ -n "$python" ] && break
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then python=$name; fi
done
[ -n "$python" ] || die "Python 3.11 or newer is needed." \
    "Debian 12, Ubuntu 24.04: sudo apt-get install python3 python3-venv    macOS: brew install python@3.12"

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if root_apt; then install "python$version-venv"; else
        die "this Python cannot make virtual environments." "sudo apt-get install python$version-venv"
    fi
fi

say "Setting up .venv (once; about a minute) …"
[ -x .venv/bin/python ] || "$python" -m venv .venv
# pip checks the lock's hashes and installs uv at the locked version, which installs the rest ten times faster.
awk '/^uv==/{on=1} on{print} on&&!/\\$/{exit}' requirements.lock > .venv/uv.lock
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement .venv/uv.lock
.venv/bin/uv pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes requirements.lock
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
# Our packages too: where Python may not write byte code, every start of a part would compile them again.
.venv/bin/python -m compileall -q core dispatcher flows api deployments
install_browser || true
touch .venv/.installed
