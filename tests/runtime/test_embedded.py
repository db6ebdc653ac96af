"""The embedded servers keep their data, ask for a password and refuse what they cannot read."""

import os
import signal
import socket
from pathlib import Path

import psycopg
import pytest
import redis

from aum.runtime.embedded import EmbeddedPostgres, EmbeddedServerError, EmbeddedValkey
from tests.runtime.conftest import wait_for


def make_postgres(folder: Path, **options: object) -> EmbeddedPostgres:
    return EmbeddedPostgres(folder / "postgres", password="correct horse/battery", **options)  # type: ignore[arg-type]


def test_rows_are_there_after_postgres_was_killed(open_dir: Path) -> None:
    first = make_postgres(open_dir)
    first.start()
    with psycopg.connect(first.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    assert first.process is not None
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()

    second = make_postgres(open_dir)
    assert wait_for(lambda: _starts(second))

    with psycopg.connect(second.url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1000,)
    second.stop()


def _starts(server: EmbeddedPostgres) -> bool:
    # The backends of a killed server need a moment to notice.
    try:
        server.start()
    except EmbeddedServerError:
        return False
    return True


def test_postgres_asks_for_the_password(open_dir: Path) -> None:
    server = make_postgres(open_dir, durable=False)
    server.start()

    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.url.replace("battery", "wrong"))

    server.stop()


def test_letters_beyond_ascii_are_compared_and_searched_as_letters(open_dir: Path) -> None:
    server = make_postgres(open_dir, durable=False)
    server.start()

    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE EXTENSION pg_trgm")
        row = connection.execute("SELECT lower('É'), 'ÉLAN' ILIKE 'élan', cardinality(show_trgm('ÉÀ'))").fetchone()

    assert row == ("é", True, 3)
    server.stop()


def test_a_folder_of_another_major_is_refused_and_unchanged(open_dir: Path) -> None:
    data = open_dir / "postgres"
    data.mkdir()
    (data / "PG_VERSION").write_text("17\n")

    with pytest.raises(EmbeddedServerError, match=r"(?s)written by PostgreSQL 17.*script/aum restore"):
        make_postgres(open_dir).start()

    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_a_folder_with_other_files_is_refused(open_dir: Path) -> None:
    data = open_dir / "postgres"
    data.mkdir()
    (data / "letter.txt").write_text("mine")

    with pytest.raises(EmbeddedServerError, match="holds files but no PostgreSQL database"):
        make_postgres(open_dir).start()

    assert (data / "letter.txt").read_text() == "mine"


def test_a_first_start_that_was_cut_off_is_started_over(open_dir: Path) -> None:
    half_made = open_dir / "postgres.building"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    server = make_postgres(open_dir, durable=False)

    server.start()

    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    server.stop()


def test_a_pid_file_whose_number_is_something_elses_does_not_stop_the_start(open_dir: Path) -> None:
    server = make_postgres(open_dir, durable=False)
    server.start()
    server.stop()
    (server.data_dir / "postmaster.pid").write_text(f"{os.getpid()}\n{server.data_dir}\n")

    server.start()

    server.stop()


def test_the_servers_own_log_is_shown_when_it_does_not_start(open_dir: Path) -> None:
    server = make_postgres(open_dir, durable=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.port))
        taken.listen()

        with pytest.raises(EmbeddedServerError, match=r"could not bind|Address already in use"):
            server.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root meets a folder that nobody may not enter")
def test_root_runs_postgres_under_a_closed_folder_or_says_what_to_do(open_dir: Path) -> None:
    open_dir.chmod(0o700)
    server = make_postgres(open_dir, durable=False)

    refusal = ""
    try:
        server.start()
    except EmbeddedServerError as error:  # some containers forbid user namespaces
        refusal = str(error)

    assert server.identity.mapped or "run the same command as an ordinary user" in refusal
    server.stop()


def test_the_queue_is_there_after_valkey_was_killed(tmp_path: Path) -> None:
    first = EmbeddedValkey(tmp_path / "valkey", password="secret")
    first.start()
    client = redis.from_url(first.url)
    client.rpush("queue", "one", "two")
    # "everysec": a second is what a kill of the whole machine could lose; a kill of the process loses nothing.
    assert first.process is not None
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()

    second = EmbeddedValkey(tmp_path / "valkey", password="secret")
    second.start()

    assert redis.from_url(second.url).lrange("queue", 0, -1) == [b"one", b"two"]
    second.stop()


def test_valkey_asks_for_the_password(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "valkey", password="secret", durable=False)
    server.start()

    with pytest.raises(redis.AuthenticationError):
        redis.from_url(f"redis://127.0.0.1:{server.port}/0").ping()

    assert (tmp_path / "valkey" / "valkey.conf").stat().st_mode & 0o077 == 0
    server.stop()
