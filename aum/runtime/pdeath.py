"""Processes that end with their parent, however the parent ends.

On Linux the kernel does it (`PR_SET_PDEATHSIG`). Elsewhere a thread watches the parent's id; programs that are not
Python are found again by the pid file of the supervisor (`aum.runtime.supervisor`).
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_WATCH_SECONDS = 1.0

# Loaded at import: the functions below run between fork and exec, where loading a library is not safe.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


def die_with_parent(*, parent_pid: int | None = None, signum: int = signal.SIGKILL) -> None:
    """Make the calling process receive `signum` when its parent ends.

    `parent_pid` is the parent as the caller knew it before it forked; with None the present parent counts. The kernel
    forgets the request when the user id changes, so this comes after any change of user. It speaks of the *thread*
    that made this process: a parent must start its children from a thread that lives as long as they should.
    """
    expected = os.getppid() if parent_pid is None else parent_pid
    if _libc is not None:
        if _libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    else:
        watcher = threading.Thread(target=_watch, args=(expected, signum), name="parent-watch", daemon=True)
        watcher.start()
    # The parent may have ended between the fork and the call above.
    if os.getppid() != expected:
        os.kill(os.getpid(), signum)


def _watch(parent_pid: int, signum: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signum)


def child_setup(*, signum: int, map_to: tuple[int, int] | None = None, bound: bool = True) -> Callable[[], None]:
    """A `preexec_fn` for `subprocess`: enter a user namespace when `map_to` (uid, gid) is given, then, if `bound`,
    end with the caller.

    `subprocess` runs it after its own change of user, which is the order that `PR_SET_PDEATHSIG` needs.
    """
    parent_pid = os.getpid()

    def apply() -> None:
        if map_to is not None:
            _enter_user_namespace(*map_to)
        if bound and _libc is not None:
            die_with_parent(parent_pid=parent_pid, signum=signum)

    return apply


def _enter_user_namespace(uid: int, gid: int) -> None:
    """Appear as `uid`:`gid` while keeping the caller's own rights on files (Linux user namespaces)."""
    if _libc is None:
        raise OSError("user namespaces exist on Linux only")
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER) is forbidden here")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {outer_uid} 1"),
        ("gid_map", f"{gid} {outer_gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as stream:
            stream.write(text)
