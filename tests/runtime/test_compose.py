"""docker-compose.yml without Docker: its structure, and each service's command with its environment as a process.

What this cannot show is said in docs/deploy.md: nothing here was run in Docker.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from aum.runtime.embedded import free_port, valkey_program
from tests.runtime.conftest import ROOT, wait_for
from tests.runtime_servers import postgres, valkey

_GIVEN = {"AUM_BASE_URL": "https://aum.example.com", "AUM_ALLOWED_HOSTS": "aum.example.com"}
_OURS = ("web", "worker", "runner", "beat", "migrate")
_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\}")


def interpolate(value: Any, environ: dict[str, str]) -> Any:
    """`value` with ${NAME}, ${NAME:-default} and ${NAME:?message} replaced as Compose does; $$ is a dollar."""
    if isinstance(value, dict):
        return {key: interpolate(item, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item, environ) for item in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        found = environ.get(match["name"], "")
        if not found and match["kind"] == "?":
            raise KeyError(match["text"])
        return found or match["text"] or ""

    return _VARIABLE.sub(replace, value)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return interpolate(document, _GIVEN)


# Structure


def test_the_services_are_those_of_a_deployment(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {*_OURS, "postgres", "redis"}
    assert compose["services"]["runner"]["deploy"]["replicas"] == "2"
    assert compose["services"]["migrate"]["restart"] == "no"


def test_every_service_that_stays_has_a_health_check(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert ("healthcheck" in service) is (name != "migrate"), name


def test_a_start_without_an_address_is_refused_by_name() -> None:
    with pytest.raises(KeyError, match="Set AUM_BASE_URL"):
        interpolate(yaml.safe_load((ROOT / "docker-compose.yml").read_text()), {})


def test_what_others_wait_for_exists_and_can_be_waited_for(compose: dict[str, Any]) -> None:
    services = compose["services"]

    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other == "migrate" else "service_healthy"
            assert wait["condition"] == expected, name
            assert other in services


def test_secrets_are_declared_and_come_by_file_only(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        mounted = set(service.get("secrets", []))
        assert mounted <= set(compose["secrets"]), name
        for variable, value in service.get("environment", {}).items():
            if str(value).startswith("/run/secrets/"):
                assert value.removeprefix("/run/secrets/") in mounted, f"{name}: {variable}"
            assert not re.search(r"PASSWORD$|_KEY$|_KEYS$|_URL$", variable) or variable == "AUM_BASE_URL", variable


def test_volumes_are_declared(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose["volumes"]


def test_our_containers_can_write_nothing_and_gain_nothing(compose: dict[str, Any]) -> None:
    for name in _OURS:
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_image_installs_the_lock_and_does_not_run_as_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()

    assert any("--require-hashes" in line for line in lines)
    assert next(line for line in reversed(lines) if line.startswith("USER")) == "USER 10001:10001"


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    dockerignore = (ROOT / ".dockerignore").read_text().splitlines()
    copies = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("COPY")]

    for source in [part for line in copies if "--from=build" not in line for part in line[1:-1]]:
        assert (ROOT / source).exists()
        assert f"!{source}" in dockerignore


# The commands, as processes


class Deployment:
    """The services' commands with their environment, their secrets in a folder and their hosts on loopback."""

    def __init__(self, compose: dict[str, Any], folder: Path, database_url: str, redis_url: str) -> None:
        self._services = compose["services"]
        self._secrets = folder / "secrets"
        command = [sys.executable, "script/make_secrets.py", str(self._secrets)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        # As a person's editor leaves them, with a line end.
        (self._secrets / "database_url").write_text(f"{database_url}\n")
        (self._secrets / "redis_url").write_text(f"{redis_url}\n")
        self.port = free_port()
        self.folder = folder

    def environ(self, name: str) -> dict[str, str]:
        given = {variable: str(value) for variable, value in self._services[name]["environment"].items()}
        given = {variable: value.replace("/run/secrets", str(self._secrets)) for variable, value in given.items()}
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        data = {"AUM_DATA_DIR": str(self.folder / "data"), "PATH": path, "HOME": str(self.folder)}
        if name == "web":
            data |= {"PORT": str(self.port), "AUM_BIND": "127.0.0.1"}
        return {**given, **data}

    def start(self, name: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{name}.log").open("wb")
        with log:
            return subprocess.Popen(
                self._services[name]["command"], cwd=ROOT, env=self.environ(name), stdout=log, stderr=log
            )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def is_healthy(self, name: str) -> bool:
        kind, *command = self._services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return (
            subprocess.run(command, cwd=ROOT, env=self.environ(name), check=False, capture_output=True).returncode == 0
        )


@pytest.fixture(scope="module")
def deployment(compose: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with postgres() as database_url, valkey() as redis_url:
        deployment = Deployment(compose, tmp_path_factory.mktemp("compose"), database_url, redis_url)
        migrate = deployment.start("migrate")
        assert migrate.wait(120) == 0, deployment.log("migrate")
        yield deployment


WORKERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("worker", "runner")]


@pytest.mark.parametrize("name", ["web", *WORKERS])
def test_the_service_becomes_healthy_and_ends_when_asked(deployment: Deployment, name: str) -> None:
    assert not deployment.is_healthy(name)

    process = deployment.start(name)
    try:
        assert wait_for(lambda: deployment.is_healthy(name), seconds=60), deployment.log(name)
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) in {0, -signal.SIGTERM}, deployment.log(name)
    finally:
        process.kill()
        process.wait()


def test_beat_becomes_healthy_when_it_fires_and_ends_when_asked(deployment: Deployment) -> None:
    assert not deployment.is_healthy("beat")

    process = deployment.start("beat")
    try:
        assert wait_for(lambda: deployment.is_healthy("beat"), seconds=100), deployment.log("beat")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in {0, -signal.SIGTERM}, deployment.log("beat")
    finally:
        process.kill()
        process.wait()


def test_the_broker_asks_for_its_password_and_keeps_its_data(compose: dict[str, Any], tmp_path: Path) -> None:
    service = compose["services"]["redis"]
    port = free_port()
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "valkey-server").symlink_to(valkey_program())
    shell, option, text = service["command"]
    text = text.replace("/tmp/valkey.conf", f"{tmp_path}/valkey.conf")
    text = text.replace("exec valkey-server", f"echo port {port} >> {tmp_path}/valkey.conf; exec valkey-server")
    environ = {
        "PASSWORD_FILE": str(tmp_path / "password"),
        "DATA_DIR": str(tmp_path / "data"),
        "PATH": f"{tmp_path}/bin:{os.environ.get('PATH', os.defpath)}",
    }

    process = subprocess.Popen([shell, option, text], env=environ, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        assert wait_for(lambda: _say(port, "PING").startswith(b"-NOAUTH"))
        assert _say(port, "AUTH secret", "CONFIG GET appendonly").endswith(b"yes\r\n")
    finally:
        process.terminate()
        assert process.wait(10) == 0
    assert (tmp_path / "data" / "appendonlydir").is_dir()


def _say(port: int, *lines: str) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall("".join(f"{line}\r\n" for line in lines).encode())
            time.sleep(0.2)
            return connection.recv(4096)
    except OSError:
        return b""


def test_the_database_compares_letters_beyond_ascii_as_the_embedded_one(compose: dict[str, Any]) -> None:
    arguments = compose["services"]["postgres"]["environment"]["POSTGRES_INITDB_ARGS"].split()

    with postgres() as database_url, psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT datlocprovider, datlocale, datcollate, datctype FROM pg_database WHERE datname = 'aum'"
        ).fetchone()

    assert row == ("b", "PG_UNICODE_FAST", "C", "C.UTF-8")
    assert set(arguments) >= {
        "--locale-provider=builtin",
        "--builtin-locale=PG_UNICODE_FAST",
        "--locale=C",
        "--lc-ctype=C.UTF-8",
    }
