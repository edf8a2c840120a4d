#!/bin/sh
# Make or update a virtual environment of this checkout: setup.sh runtime|dev|bench
#
# Finds a Python of a supported version and hands over to environment.py. PYTHON=... names one outright.
set -eu
cd "$(dirname "$0")/../.."

# A supported Python can also make virtual environments: Debian's bare python3 cannot.
probe='
import sys
ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
print("%d.%d.%d" % sys.version_info[:3])
if not ok:
    sys.exit(3)
try:
    import ensurepip, venv
except ImportError:
    sys.exit(4)
'
found=
bare=

try() { # Sets `version`; status 0: usable, 3: other version, 4: cannot make environments, else: does not run.
    version=$("$1" -c "$probe" 2>/dev/null)
}

refuse() {
    echo "llm-finops needs Python 3.11, 3.12 or 3.13; $1" >&2
    exit 2
}

if [ -n "${PYTHON:-}" ]; then
    try "$PYTHON" && status=0 || status=$?
    case $status in
        0) exec "$PYTHON" deploy/local/environment.py "$@" --strict ;;
        3) refuse "PYTHON=$PYTHON is Python $version" ;;
        4) refuse "PYTHON=$PYTHON ($version) has no venv or ensurepip module (Debian: apt install python${version%.*}-venv)" ;;
        *) refuse "PYTHON=$PYTHON does not run" ;;
    esac
fi

for name in python3.13 python3.12 python3.11 python3 python; do
    command -v "$name" >/dev/null 2>&1 || continue
    try "$name" && status=0 || status=$?
    case $status in
        0) exec "$name" deploy/local/environment.py "$@" ;;
        3) found="$found, $name is $version" ;;
        4) bare=${bare:-$version} ;;
    esac
done

if [ -n "$bare" ]; then
    refuse "found $bare, but without its venv and ensurepip modules (Debian: apt install python${bare%.*}-venv)"
fi
found=${found:-, none}
refuse "found ${found#, }. Install one, or name one: make PYTHON=/path/to/python3.12 ..."
