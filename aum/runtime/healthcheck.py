"""Health checks for containers: `python -m aum.runtime.healthcheck web|worker|beat`. Exit code 0 means healthy.

They do not load the application, so that asking often costs little.
"""

import http.client
import os
import socket
import sys
from urllib.parse import urlsplit

import psycopg

from aum.runtime.installation import database_url, given

_TIMEOUT_SECONDS = 8.0
# Beat fires a sweep every minute.
_BEAT_SILENCE_MINUTES = 5


def check_web() -> str:
    """What is wrong with the web server of this container; empty when it serves the sign-in page."""
    base = urlsplit(os.environ.get("AUM_BASE_URL", "http://localhost"))
    port = int(os.environ.get("PORT", "8000"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    # As the proxy would ask, so that neither the host check nor the redirect to https answers instead.
    connection.request("GET", "/healthz", headers={"Host": base.netloc, "X-Forwarded-Proto": base.scheme})
    status = connection.getresponse().status
    return "" if status == http.client.OK else f"GET /healthz answered {status}"


def check_worker() -> str:
    """What is wrong with the Celery worker of this container; empty when it answers."""
    from celery import Celery

    node = f"celery@{socket.gethostname()}"
    app = Celery(broker=given(os.environ, "REDIS_URL"))
    answers = app.control.ping(destination=[node], timeout=_TIMEOUT_SECONDS)
    return "" if answers else f"{node} does not answer"


def check_beat() -> str:
    """What is wrong with beat; empty when it fired something in the last minutes."""
    query = "SELECT max(last_run_at) > now() - make_interval(mins => %s) FROM django_celery_beat_periodictask"
    with psycopg.connect(database_url(os.environ), connect_timeout=5) as connection:
        row = connection.execute(query, [_BEAT_SILENCE_MINUTES]).fetchone()
    return "" if row and row[0] else f"nothing was fired in the last {_BEAT_SILENCE_MINUTES} minutes"


CHECKS = {"web": check_web, "worker": check_worker, "beat": check_beat}


def main(arguments: list[str]) -> int:
    """Run the named check, print what is wrong, and return the exit code."""
    if len(arguments) != 1 or arguments[0] not in CHECKS:
        print(f"usage: python -m aum.runtime.healthcheck {'|'.join(CHECKS)}", file=sys.stderr)
        return 2
    try:
        problem = CHECKS[arguments[0]]()
    except Exception as error:  # whatever it is, the answer to the question is no
        problem = f"{type(error).__name__}: {error}"
    if problem:
        print(problem, file=sys.stderr)
    return int(bool(problem))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
