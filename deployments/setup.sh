#!/usr/bin/env bash
# Makes .venv with the locked dependencies; with "node", also what the tests' STOMP clients need.
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
# The lock's hashes are checked by pip, which then has uv, at the locked version, do the rest ten times faster.
awk '/^uv==/{on=1} on{print} on&&!/\\$/{exit}' requirements.lock > .venv/uv.lock
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement .venv/uv.lock
.venv/bin/uv pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes requirements.lock
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
# Ours too: where Python may not write byte code of its own, every part's start would compile everything anew.
.venv/bin/python -m compileall -q core flows api deployments
touch .venv/.installed
