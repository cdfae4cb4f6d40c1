"""A database that forgot, or was rewritten, is noticed before anything is signed on it, and recovered on the record."""

import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest

from app.errors import LogLagging, LogQuarantined
from app.security.log_key import LogKey
from app.settings import Secret
from app.storage import log_audit, log_quarantine
from app.workflow.log_state import LogState, Status
from tests.integration.service.logged import ORIGIN, SEED, Log, connected, sequencing, the_log
from tests.integration.service.relay import Mode, relay
from tests.integration.service.running import eventually, serving, settings_for

__all__ = ["the_log"]
pytestmark = [pytest.mark.integration, pytest.mark.anyio]


async def grown(log: Log, size: int) -> None:
    await eventually(lambda: log.newest() >= size, within_seconds=10)


async def quarantined(log: Log, state: LogState) -> None:
    """Wait until the replica knows, and all others can."""
    await eventually(lambda: state.is_quarantined, within_seconds=10)
    await eventually(
        lambda: log.rows("SELECT count(*) FROM log_quarantine WHERE lifted_at IS NULL") == [(1,)], within_seconds=5
    )


async def rewound(log: Log) -> None:
    """Five entries, a backup, five more published, the backup restored."""
    log.add("genesis", *["proposal-created"] * 4)
    async with sequencing(log):
        await grown(log, 5)
        log.backup()
        log.add(*["proposal-created"] * 5)
        await grown(log, 10)
    log.restore()
    assert log.newest() == 5


def recovery(log: Log, *arguments: str) -> subprocess.CompletedProcess[str]:
    watermark = str(log.folder / "watermark")
    return log.server.command("app.workflow.log_recovery", *arguments, LOG_ORIGIN=ORIGIN, LOG_WATERMARK_FILE=watermark)


def recover(log: Log) -> subprocess.CompletedProcess[str]:
    return recovery(log, "recover", "--principal", "operator", "--reason", "no newer backup")


def note(origin: str, size: int) -> bytes:
    return LogKey(Secret(SEED), origin=origin).sign(size=size, root=bytes(32))


def drop_node(log: Log) -> None:
    with log.as_superuser() as connection:
        connection.execute("DELETE FROM log_nodes WHERE level = 2")


def add_entry_without_nodes(log: Log) -> None:
    with log.as_superuser() as connection:
        connection.execute("INSERT INTO log_entries VALUES (5, gen_random_uuid(), sha256('x'), now(), now())")


async def test_after_a_restore_nothing_is_signed_and_the_mark_stays(the_log: Log) -> None:
    await rewound(the_log)
    mark = (the_log.folder / "watermark").read_bytes()

    async with sequencing(the_log) as one, sequencing(the_log, name="replica-2") as two:
        await quarantined(the_log, one.state)
        await quarantined(the_log, two.state)
        the_log.add("proposal-created")
        await eventually(lambda: one.state.unsequenced == 1, within_seconds=5)

        assert the_log.size() == 5
        with pytest.raises(LogQuarantined):
            one.state.require_sound(is_high=False)

    assert the_log.newest() == 5
    assert (the_log.folder / "watermark").read_bytes() == mark
    assert the_log.rows("SELECT reason, size, watermark_size FROM log_quarantine") == [("rewound", 5, 10)]
    async with connected(the_log) as connection:
        with pytest.raises(LogQuarantined):
            await log_quarantine.require_none(connection)


async def test_a_restore_under_a_running_sequencer_is_noticed_too(the_log: Log) -> None:
    the_log.add("genesis", *["proposal-created"] * 4)
    async with sequencing(the_log) as replica:
        await grown(the_log, 5)
        the_log.backup()
        the_log.add(*["proposal-created"] * 5)
        await grown(the_log, 10)
        the_log.restore()
        await quarantined(the_log, replica.state)
        assert the_log.newest() == 5


async def test_a_restored_log_that_grew_as_far_again_is_a_fork(the_log: Log) -> None:
    await rewound(the_log)
    mark = the_log.mark.path.read_bytes()
    the_log.mark.path.unlink()
    with the_log.as_superuser() as connection:  # as if signing had gone on without the mark
        connection.execute("DELETE FROM log_checkpoints")
    the_log.add(*["proposal-created"] * 6)
    async with sequencing(the_log):
        await grown(the_log, 11)
    the_log.mark.path.write_bytes(mark)

    async with sequencing(the_log) as replica:
        await quarantined(the_log, replica.state)

    assert the_log.rows("SELECT reason, watermark_size FROM log_quarantine") == [("forked", 10)]


@pytest.mark.parametrize(
    ("ruin", "reason"),
    [
        (lambda log: log.mark.path.unlink(), "watermark-missing"),
        (lambda log: log.mark.path.write_bytes(b"what was here?\n"), "watermark-unreadable"),
        (lambda log: log.mark.path.write_bytes(note("other.example/log", 3)), "watermark-unreadable"),
        (lambda log: log.mark.path.write_bytes(note(ORIGIN, 3)), "forked"),
        (drop_node, "damaged"),
        (add_entry_without_nodes, "damaged"),
    ],
    ids=["no mark", "no checkpoint in it", "another log's", "another root", "a node is gone", "nodes never came"],
)
async def test_what_cannot_be_compared_is_not_believed(the_log: Log, ruin: Callable[[Log], None], reason: str) -> None:
    the_log.add("genesis", *["proposal-created"] * 4)
    async with sequencing(the_log):
        await grown(the_log, 5)
    ruin(the_log)

    async with sequencing(the_log) as replica:
        await quarantined(the_log, replica.state)
        assert replica.state.quarantine is not None
        assert replica.state.quarantine.reason == reason

    assert the_log.newest() == 5


async def test_after_recovery_the_log_goes_on_and_says_what_was_lost(the_log: Log) -> None:
    await rewound(the_log)
    lost = the_log.mark.path.read_text()
    async with sequencing(the_log) as replica:
        await quarantined(the_log, replica.state)
        assert recovery(the_log, "status").returncode == 1

        done = recover(the_log)

        assert done.returncode == 0, done.stderr
        await eventually(lambda: replica.state.status is Status.SEQUENCING, within_seconds=5)
        the_log.add("proposal-created")
        await grown(the_log, 7)
        replica.state.require_sound(is_high=True)
    the_log.assert_whole()
    ((body,),) = the_log.rows("SELECT convert_from(body, 'UTF8')::jsonb FROM events WHERE kind = 'log-recovered'")
    assert (body["from"], body["to"], body["checkpoint"], body["reason"]) == (10, 5, lost, "no newer backup")
    kept = [path for path in the_log.folder.iterdir() if path.name.endswith(".lost")]
    assert [path.read_text() for path in kept] == [lost]
    assert recovery(the_log, "status").returncode == 0


async def test_a_log_restored_forward_leaves_quarantine_without_a_fork(the_log: Log) -> None:
    the_log.add("genesis", *["proposal-created"] * 4)
    async with sequencing(the_log) as replica:
        await grown(the_log, 5)
        mark = the_log.mark.path.read_bytes()
        the_log.mark.path.unlink()
        await quarantined(the_log, replica.state)
        the_log.mark.path.write_bytes(mark)  # it was found again

        assert recover(the_log).returncode == 0

        await grown(the_log, 6)
    the_log.assert_whole()
    ((body,),) = the_log.rows("SELECT convert_from(body, 'UTF8')::jsonb FROM events WHERE kind = 'log-recovered'")
    assert (body["from"], body["to"]) == (5, 5)


async def test_a_replica_that_never_saw_the_quarantine_forgets_what_was_lost(the_log: Log) -> None:
    the_log.add("genesis", *["proposal-created"] * 4)
    async with relay(the_log.server.postgres.port) as network, sequencing(the_log, port=network.port) as replica:
        await grown(the_log, 5)
        the_log.backup()
        the_log.add(*["proposal-created"] * 5)
        await eventually(lambda: replica.state.published_size == 10, within_seconds=10)
        await network.cut(Mode.CLOSING)
        await eventually(lambda: not replica.database.is_up, within_seconds=5)
        the_log.restore()
        assert recover(the_log).returncode == 0
        assert replica.state.published_size == 10

        await network.cut(Mode.OPEN)

        await eventually(lambda: replica.state.published_size == the_log.newest() == 6, within_seconds=15)


async def test_recovery_is_refused_when_nothing_is_wrong(the_log: Log) -> None:
    the_log.add("genesis")
    async with sequencing(the_log):
        await grown(the_log, 1)

        done = recover(the_log)

    assert (done.returncode, done.stderr) == (1, "refused: nothing is wrong\n")
    assert the_log.rows("SELECT count(*) FROM events")[0][0] == 1


async def test_recovery_is_refused_on_a_log_that_was_rewritten(the_log: Log) -> None:
    await rewound(the_log)
    with the_log.as_superuser() as connection:
        connection.execute(
            "UPDATE events SET leaf = '{}' WHERE id = (SELECT event_id FROM log_entries WHERE index = 3)"
        )

    done = recover(the_log)

    assert done.returncode == 1
    assert done.stderr == "refused: entry 3: has another leaf than was hashed\n"
    assert the_log.mark.read() is not None


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("UPDATE log_entries SET leaf_hash = sha256('x') WHERE index = 2", 2),
        ("DELETE FROM log_entries WHERE index = 1", 1),
        ("DELETE FROM log_entries WHERE index = 4", 4),
        ("UPDATE log_nodes SET hash = sha256('x') WHERE level = 2", 3),
        ("DELETE FROM log_nodes WHERE level = 1 AND number = 0", 1),
        ("UPDATE log_checkpoints SET root = sha256('x') WHERE size = 5", 4),
        ("INSERT INTO log_nodes VALUES (5, 0, sha256('x'))", 5),
    ],
)
async def test_an_audit_names_the_first_entry_that_is_wrong(the_log: Log, statement: str, index: int) -> None:
    the_log.add("genesis", *["proposal-created"] * 4)
    async with sequencing(the_log):
        await grown(the_log, 5)
    async with connected(the_log) as connection:
        assert (await log_audit.audit(connection)).size == 5
        with the_log.as_superuser() as superuser:
            superuser.execute(statement)
        with pytest.raises(log_audit.AuditFlaw) as caught:
            await log_audit.audit(connection)
    assert caught.value.index == index


async def test_quarantine_is_shown_and_readiness_stays(the_log: Log) -> None:
    await rewound(the_log)
    told = replace(settings_for(the_log.server.address()), log=the_log.policy())
    async with serving(told) as client:
        await quarantined(the_log, client.service.log)
        answer = await client.http.get("/health")
        ready = await client.http.get("/health/ready")

    assert (answer.status_code, answer.json()["status"], answer.json()["log"]) == (503, "degraded", "quarantine")
    assert answer.json()["reasons"] == ["log_quarantine"]
    assert ready.status_code == 200


def test_before_the_first_look_nothing_is_relied_on() -> None:
    now = [0.0]
    state = LogState(is_on=True, clock=lambda: now[0])
    with pytest.raises(LogLagging):
        state.require_sound(is_high=False)
    state.follow()
    state.require_sound(is_high=True)
    state.doubt()
    now[0] = 61.0
    assert state.lag_seconds == 61.0
    LogState(is_on=False, clock=lambda: now[0]).require_sound(is_high=True)
