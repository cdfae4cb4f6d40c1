"""The three documented commands, word for word (FM03, FM11), on a server of their own."""

import signal
import subprocess
import sys
import time

import pytest

from app.migrations.catalogue import expected
from app.migrations.lock import LOCK_KEY
from tests.integration.service.running import Server

pytestmark = pytest.mark.integration


def catalogue(bare_server: Server) -> list[tuple[str, ...]]:
    with bare_server.connect() as connection:
        return connection.execute(
            "SELECT relname, relkind::text, coalesce(relacl::text, '') FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relname !~ 'yoyo|schema_versions' ORDER BY 1"
        ).fetchall()


def test_apply_status_and_rollback_work_word_for_word(bare_server: Server) -> None:
    def run(command: str) -> subprocess.CompletedProcess[str]:
        return bare_server.command(f"app.migrations.{command}")

    before = run("status")
    assert before.returncode == 65
    assert before.stdout.endswith("schema missing: no migration was ever applied\n")
    assert run("apply").returncode == 0
    first = catalogue(bare_server)
    assert run("status").returncode == 0
    assert run("apply").stdout.startswith("nothing to apply")
    for version in reversed(expected()):
        assert run("rollback").stdout == f"took back {version.id}\n"
    assert catalogue(bare_server) == []
    assert run("rollback").returncode == 1
    assert run("apply").returncode == 0
    assert catalogue(bare_server) == first


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("UPDATE schema_versions SET checksum = 'other'", "edited"),
        ("INSERT INTO schema_versions (id, checksum) VALUES ('9999_future', 'x')", "ahead"),
    ],
)
def test_a_schema_of_other_code_is_left_alone(bare_server: Server, change: str, kind: str) -> None:
    bare_server.command("app.migrations.apply")
    with bare_server.connect() as connection:
        connection.execute(change)

    for command in ("status", "apply", "rollback"):
        done = bare_server.command(f"app.migrations.{command}")
        assert done.returncode == 65
        assert f"schema {kind}: " in done.stdout + done.stderr


def test_a_second_runner_waits_bounded_then_says_so(bare_server: Server) -> None:
    with bare_server.connect() as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        began = time.monotonic()

        done = bare_server.command("app.migrations.apply", MIGRATION_LOCK_WAIT_SECONDS="0.5")

    assert done.returncode == 75
    assert done.stderr == "another runner held the migration lock for 0.5 s\n"
    assert time.monotonic() - began >= 0.5
    assert catalogue(bare_server) == []


def test_a_killed_runner_leaves_no_lock_and_no_half_migration(bare_server: Server) -> None:
    # A table of the same name, not committed: the runner holds its lock and waits inside its transaction.
    with bare_server.connect() as blocker, blocker.transaction(force_rollback=True):
        blocker.execute("CREATE TABLE idempotency_records (a int)")
        runner = subprocess.Popen([sys.executable, "-m", "app.migrations.apply"], env=bare_server.environ())
        _await_waiting(bare_server)
        runner.send_signal(signal.SIGKILL)
        runner.wait(10)
    began = time.monotonic()

    done = bare_server.command("app.migrations.apply", MIGRATION_LOCK_WAIT_SECONDS="10")

    assert (done.returncode, done.stdout) == (0, "".join(f"applied {version.id}\n" for version in expected()))
    assert time.monotonic() - began < 9


def _await_waiting(bare_server: Server) -> None:
    deadline = time.monotonic() + 15
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with bare_server.connect() as connection:
        while connection.execute(query).fetchone() == (0,):
            assert time.monotonic() < deadline, "the runner never waited"
            connection.execute("SELECT pg_sleep(0.02)")


def test_a_migration_that_fails_leaves_nothing_and_names_itself(bare_server: Server) -> None:
    with bare_server.connect() as connection:
        connection.execute("CREATE TABLE api_keys (a int)")

    done = bare_server.command("app.migrations.apply")

    assert done.returncode == 1
    assert done.stderr == "0001_proposals failed (SQLSTATE 42P07); nothing of it was kept\n"
    assert [row[0] for row in catalogue(bare_server)] == ["api_keys"]


def test_a_version_and_the_record_of_it_are_kept_together_or_not_at_all(bare_server: Server) -> None:
    with bare_server.connect() as connection:
        connection.execute("SET ROLE firewall_owner")
        connection.execute("CREATE TABLE schema_versions (id text PRIMARY KEY, checksum text CHECK (false))")

    done = bare_server.command("app.migrations.apply")

    assert (done.returncode, done.stderr) == (
        1,
        "0001_proposals failed (SQLSTATE 23514); nothing of it was kept\n",
    )
    assert catalogue(bare_server) == []


def test_without_a_database_the_command_says_so(bare_server: Server) -> None:
    done = bare_server.command("app.migrations.status", DATABASE_PORT="1")

    assert (done.returncode, done.stderr) == (69, "the database is not available (OperationalError)\n")
