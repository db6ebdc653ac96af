"""The real application from its first start: what answers, what is kept, and that no process outlives it."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.product.harness import Product, SandboxProcess, wait_for

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds its processes in /proc"),
    # tests/runtime/test_server.py holds the same of the processes alone, in the usual tests.
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="aum-first-run-"))
    folder.chmod(0o755)
    yield folder / "var"
    shutil.rmtree(folder, ignore_errors=True)


def test_a_fresh_start_answers_and_its_data_outlives_both_kinds_of_end(data_dir: Path) -> None:
    with SandboxProcess(people=50) as sandbox:
        variables = {"ATLASSIAN_SITE_ALLOWLIST": "127.0.0.1"}
        with Product(data_dir, **variables) as product:
            for service in ("postgres", "valkey", "web", "worker", "runner", "beat"):
                assert product.pids(service), service
            assert product.status("/healthz") == 200
            assert product.status(product.first_link.removeprefix(product.url)) == 200
            assert product.status("/login/") == 200
            # Nobody is in without signing in, whatever the address.
            assert product.status("/o/larkspur/users/") == 302
            product.arrange("connect", url=sandbox.url, slug="larkspur", settings={})
            people = product.query("SELECT count(*) FROM users_account")[0][0]
            assert people >= 50
            product.stop(signal.SIGINT)

        with Product(data_dir, **variables) as product:
            assert product.query("SELECT count(*) FROM users_account") == [(people,)]
            assert product.status("/login/") == 200
            assert "first owner" not in product.log(), "somebody has an account already"
            assert product.process is not None
            product.process.kill()
            product.process.wait(10)
            wait_for(lambda: not product.all_processes(), seconds=10, what="no process after kill -9 of the parent")

            product.start()
            assert product.query("SELECT count(*) FROM users_account") == [(people,)]
            assert product.status("/login/") == 200
            product.stop(signal.SIGTERM)
