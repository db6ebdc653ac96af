# Shared by the commands in this folder: finds Python and makes the environment. Sourced, POSIX sh.

# AUM's folder, whatever folder the caller is in.
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}
export PATH

find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    if [ -n "${PYTHON:-}" ]; then
        echo "PYTHON=$PYTHON is not a Python 3.11 or newer." >&2
    else
        echo "AUM needs Python 3.11 or newer; none was found. Install it, or name it: PYTHON=/path/to/python $0" >&2
    fi
    return 1
}

# make_environment base|dev: a .venv with what requirements/<name>.txt locks; quick when nothing changed.
make_environment() {
    python=$(find_python) || exit 1
    "$python" "$root/script/bootstrap.py" "$1" || exit 1
    venv_python=$root/.venv/bin/python
    PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
    export PYTHONPATH
}
