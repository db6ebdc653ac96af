"""A small set of services under the real supervisor: `python fake_server.py FOLDER`.

Each service writes its process id into FOLDER. "parent" starts a child that ends with it, as gunicorn and Celery do;
"stubborn" ignores SIGTERM; "crasher" ends after 0.2 s; "database" stands for a server that others need.
"""

import sys
from pathlib import Path

from aum.runtime.supervisor import Log, Service, ServiceFailedError, StopRequestedError, Supervisor

_WRITE_PID = """
import os, pathlib, signal, sys, time
from aum.runtime.pdeath import die_with_parent
folder = pathlib.Path(sys.argv[1])
def note(name):
    with open(folder / name, "a") as stream:
        stream.write(f"{os.getpid()}\\n")
"""
_SLEEP = _WRITE_PID + "note(sys.argv[2])\nprint('up', flush=True)\ntime.sleep(600)\n"
_STUBBORN = _WRITE_PID + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nnote(sys.argv[2])\ntime.sleep(600)\n"
_CRASHER = _WRITE_PID + "note(sys.argv[2])\ntime.sleep(0.2)\nsys.exit(3)\n"
_PARENT = (
    _WRITE_PID
    + """
note(sys.argv[2])
parent = os.getpid()
if os.fork() == 0:
    die_with_parent(parent_pid=parent)
    note("grandchild")
    time.sleep(600)
time.sleep(600)
"""
)


def main(folder: Path) -> int:
    def service(name: str, code: str, *, tier: int = 1) -> Service:
        command = [sys.executable, "-c", code, str(folder), name]
        return Service(name, command, tier=tier, stop_timeout_seconds=0.5)

    supervisor = Supervisor(pid_file=folder / "processes.json", log=Log(sys.stdout))
    supervisor.install_signals()
    supervisor.end_leftovers()
    try:
        supervisor.add(service("database", _SLEEP, tier=0))
        supervisor.wait_until((folder / "database").exists, what="It", timeout_seconds=20, service="database")
        wanted = Service(
            "wanted",
            [sys.executable, "-c", _SLEEP, str(folder), "wanted"],
            wanted=(folder / "wish").exists,
            stop_timeout_seconds=0.5,
        )
        supervisor.add(
            service("plain", _SLEEP),
            service("stubborn", _STUBBORN),
            service("parent", _PARENT),
            service("crasher", _CRASHER),
            wanted,
        )
        supervisor.run_forever()
    except StopRequestedError:
        return 0
    except ServiceFailedError as error:
        print(error)
        return 1
    finally:
        supervisor.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
