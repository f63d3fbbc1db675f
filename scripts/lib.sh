# shellcheck shell=bash
# Sourced by demo, test and check: makes .venv once, from pinned requirements, and again when they change.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD

# install ARGUMENT...: pip, whose long output is shown only when it fails.
install() {
    local log
    log=$(mktemp)
    if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        echo "pip install $* failed; its output stands above." >&2
        exit 3
    fi
    rm -f "$log"
}

# ensure_venv FILE: a virtual environment with requirements/FILE.txt and this checkout, editable.
ensure_venv() {
    local wanted=$1 python=${PYTHON:-python3} stamp
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
        echo "AutoScorer needs Python 3.11 or newer (set PYTHON to one); found: $("$python" --version 2>&1 || true)" >&2
        exit 3
    }
    stamp=$(cat "requirements/$wanted.txt" pyproject.toml | cksum | tr -d ' ')
    if [ -f ".venv/.autoscorer-$wanted" ] && [ "$(cat ".venv/.autoscorer-$wanted")" = "$stamp" ]; then
        return
    fi
    echo "Setting up .venv (requirements/$wanted.txt) ..." >&2
    [ -x .venv/bin/python ] || "$python" -m venv .venv || {
        echo "The venv module is missing (Debian, Ubuntu: apt-get install python3-venv)." >&2
        exit 3
    }
    install -r "requirements/$wanted.txt"
    install --no-deps -e .
    echo "$stamp" >".venv/.autoscorer-$wanted"
}
