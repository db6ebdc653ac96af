"""Configuration of gunicorn: `gunicorn -c python:aum.runtime.gunicorn_conf`, in `script/server` and compose alike."""

import os
import warnings
from pathlib import Path
from typing import Any

from aum.runtime.pdeath import die_with_parent

# WhiteNoise serves from the source folders; that there is no collected copy is no news.
warnings.filterwarnings("ignore", message="No directory at")

wsgi_app = "aum.wsgi:application"
bind = [f"{os.environ.get('AUM_BIND', '127.0.0.1')}:{os.environ.get('PORT', '8000')}"]
worker_class = "gthread"
workers = int(os.environ.get("AUM_WEB_WORKERS", "1"))
threads = int(os.environ.get("AUM_WEB_THREADS", "12"))
timeout = 120
graceful_timeout = int(os.environ.get("AUM_STOP_SECONDS", "30"))
keepalive = 5
loglevel = "warning"
# Workers show that they live by touching a file, which blocks when it lies on a busy disk.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None
# The control socket would lie in the home folder, where two installations of one user meet.
control_socket_disable = True


def post_fork(_server: Any, worker: Any) -> None:
    """Workers end with their master, even when that is killed."""
    die_with_parent(parent_pid=worker.ppid)
