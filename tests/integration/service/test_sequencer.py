"""The sequencer on real PostgreSQL: nothing skipped, nothing twice, no fork, whoever dies (FM15)."""

import asyncio
import secrets
import threading

import psycopg
import pytest
from psycopg import errors

from app.core.log import merkle
from app.core.log.merkle import CompactRange
from app.storage import log as log_rows
from app.storage import log_tree
from app.workflow.log_state import Status
from tests.integration.service.logged import Log, insert, sequencing, the_log
from tests.integration.service.relay import Mode, relay
from tests.integration.service.running import eventually

__all__ = ["the_log"]
pytestmark = [pytest.mark.integration, pytest.mark.anyio]


WAITING = """
    SELECT count(*) FROM pg_stat_activity WHERE application_name = 'replica-1-log' AND wait_event_type = 'Lock'"""


async def published(log: Log, size: int) -> None:
    await eventually(lambda: log.newest() >= size, within_seconds=10)


async def test_every_committed_event_gets_a_number_and_a_checkpoint(the_log: Log) -> None:
    the_log.add("genesis")
    the_log.add(*["proposal-created"] * 600)
    async with sequencing(the_log):
        await published(the_log, 601)
    the_log.assert_whole()


async def test_nothing_is_numbered_before_the_genesis(the_log: Log) -> None:
    the_log.add("proposal-created", "proposal-created")
    async with sequencing(the_log) as replica:
        await eventually(lambda: replica.state.unsequenced == 2, within_seconds=5)
        assert the_log.size() == 0
        the_log.add("genesis")
        await published(the_log, 3)
    assert b'"genesis"' in the_log.leaves()[0]
    the_log.assert_whole()


async def test_an_event_that_commits_late_is_numbered_late_and_not_skipped(the_log: Log) -> None:
    the_log.add("genesis")
    async with sequencing(the_log):
        with the_log.as_owner() as slow:
            with slow.transaction():
                late = insert(slow, "proposal-created")
                early = the_log.add(*["proposal-created"] * 3)
                await published(the_log, 4)
            await published(the_log, 5)
    order = [row[0] for row in the_log.rows("SELECT event_id FROM log_entries ORDER BY index")]
    assert order[1:] == [*early, late]
    the_log.assert_whole()


async def test_events_of_one_chain_keep_its_order_under_concurrent_transactions(the_log: Log) -> None:
    """Each chain grows under a lock, as those of proposals do; their transactions begin in any order."""
    chains, length = 6, 25
    the_log.add("genesis")
    with the_log.as_owner() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS chains_of_a_test (name text PRIMARY KEY, last text)")
        connection.execute("TRUNCATE chains_of_a_test")
        for number in range(chains):
            connection.execute("INSERT INTO chains_of_a_test VALUES (%s)", [f"chain-{number}"])
    choose = secrets.SystemRandom()

    def write() -> None:
        with the_log.as_owner() as connection:
            for _ in range(length):
                with connection.transaction():
                    connection.execute("SELECT pg_current_xact_id(), now()")
                    name = f"chain-{choose.randrange(chains)}"
                    row = connection.execute(
                        "SELECT last FROM chains_of_a_test WHERE name = %s FOR UPDATE", [name]
                    ).fetchone()
                    assert row is not None
                    last = row[0]
                    for _ in range(choose.randint(1, 3)):
                        last = f"sha256:{insert(connection, name, prev=last).hex * 2}"
                    connection.execute("UPDATE chains_of_a_test SET last = %s WHERE name = %s", [last, name])

    async with sequencing(the_log, batch_entries_max=7):
        writers = [threading.Thread(target=write) for _ in range(8)]
        for writer in writers:
            writer.start()
        await eventually(lambda: not any(writer.is_alive() for writer in writers), within_seconds=30)
        await eventually(lambda: the_log.rows("SELECT count(*) FROM log_queue")[0][0] == 0, within_seconds=10)
        await published(the_log, the_log.size())
    the_log.assert_whole()
    rows = the_log.rows(
        "SELECT kind, 'sha256:' || repeat(replace(event_id::text, '-', ''), 2), prev"
        " FROM log_entries JOIN events ON id = event_id WHERE kind LIKE 'chain%' ORDER BY index"
    )
    last: dict[str, str | None] = {}
    for chain, name, prev in rows:
        assert prev == last.get(chain)
        last[chain] = name
    assert len(rows) >= 8 * length


async def test_two_sequencers_at_once_never_fork_nor_skip(the_log: Log) -> None:
    the_log.add("genesis")
    async with sequencing(the_log, name="replica-1") as one, sequencing(the_log, name="replica-2") as two:
        for round_number in range(12):
            the_log.add(*["proposal-created"] * 20)
            leader = "replica-1" if round_number % 2 else "replica-2"
            with the_log.server.connect() as connection:  # whoever leads loses the lock with the session
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
                    [f"{leader}-log"],
                )
        await published(the_log, 241)
        await eventually(
            lambda: {one.state.status, two.state.status} == {Status.SEQUENCING, Status.FOLLOWING}, within_seconds=5
        )
    the_log.assert_whole()
    assert the_log.rows("SELECT token FROM log_sequencer")[0][0] >= 2


async def test_a_batch_of_an_older_holder_is_refused_in_its_own_transaction(the_log: Log) -> None:
    """Two that both believe to lead: what remains when a lock was lost without anybody noticing."""
    the_log.add("genesis", "proposal-created")
    dsn = the_log.server.postgres.dsn("firewall_app")
    async with (
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as first,
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as second,
    ):
        old = await log_rows.take_token(first, holder="first")
        async with first.transaction():
            size = await log_rows.require_token(first, old)
            waiting = await log_rows.queued(first, size=size, limit=1)
            tree = await log_rows.append(first, CompactRange(), waiting)
        await log_rows.take_token(second, holder="second")

        async def batch() -> None:
            async with first.transaction():
                await log_rows.require_token(first, old)
                await log_rows.append(first, tree, await log_rows.queued(first, size=1, limit=1))

        with pytest.raises(log_rows.FencedOff):
            await batch()

    assert the_log.size() == 1


async def test_without_the_fence_the_database_still_refuses_a_fork(the_log: Log) -> None:
    the_log.add("genesis", "proposal-created", "proposal-created")
    dsn = the_log.server.postgres.dsn("firewall_app")
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        (genesis,) = await log_rows.queued(connection, size=0, limit=1)
        async with connection.transaction():
            tree = await log_rows.append(connection, CompactRange(), [genesis])
        one, two = await log_rows.queued(connection, size=1, limit=2)
        with pytest.raises(errors.UniqueViolation):  # the same number for another event
            async with connection.transaction():
                await log_rows.append(connection, CompactRange(), [one])
        with pytest.raises(errors.UniqueViolation):  # another number for the same event
            async with connection.transaction():
                await log_rows.append(connection, tree, [genesis])
        gap = CompactRange(2, (merkle.node_hash(*(merkle.leaf_hash(x.leaf) for x in (one, two))),))
        with pytest.raises(errors.CheckViolation, match="no gaps"):
            async with connection.transaction():
                await log_rows.append(connection, gap, [two])
    assert the_log.size() == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log_entries SET leaf_hash = leaf_hash",
        "DELETE FROM log_entries",
        "TRUNCATE log_nodes",
        "DELETE FROM log_checkpoints",
        "DELETE FROM log_quarantine",
    ],
)
def test_what_is_written_stays_even_for_the_owner(the_log: Log, statement: str) -> None:
    with the_log.as_owner() as connection, pytest.raises(errors.InsufficientPrivilege, match="append-only"):
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO log_queue (ordinal, event_id) VALUES (1, gen_random_uuid())",
        "UPDATE log_quarantine SET lifted_at = now()",
        "DELETE FROM log_sequencer",
    ],
)
def test_the_application_may_not(the_log: Log, statement: str) -> None:
    with the_log.server.connect("firewall_app") as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement)


async def test_the_lock_dies_with_a_connection_that_falls_silent_in_the_middle_of_a_batch(the_log: Log) -> None:
    the_log.add("genesis")
    async with (
        relay(the_log.server.postgres.port) as network,
        sequencing(the_log, name="replica-1", port=network.port) as lost,
    ):
        await published(the_log, 1)
        with the_log.as_superuser() as blocker, blocker.transaction(force_rollback=True):
            # The batch waits inside its transaction: the sequencer's row is somebody else's.
            blocker.execute("SELECT FROM log_sequencer FOR UPDATE")
            the_log.add(*["proposal-created"] * 5)
            await eventually(lambda: the_log.rows(WAITING) == [(1,)], within_seconds=5)
            await network.cut(Mode.SILENT)
        async with sequencing(the_log, name="replica-2") as heir:
            await eventually(lambda: heir.state.status is Status.SEQUENCING, within_seconds=10)
            await published(the_log, 6)
            assert lost.state.status is Status.DOUBTFUL
            network.mode = Mode.OPEN
            await eventually(lambda: lost.state.status is Status.FOLLOWING, within_seconds=10)
    the_log.assert_whole()


async def test_a_stopped_database_is_survived_and_nobody_knocks_meanwhile(the_log: Log) -> None:
    the_log.add("genesis")
    async with relay(the_log.server.postgres.port) as network, sequencing(the_log, port=network.port) as replica:
        await published(the_log, 1)
        await network.cut(Mode.CLOSING)
        await eventually(lambda: replica.state.status is Status.DOUBTFUL, within_seconds=5)
        the_log.add("proposal-created")
        network.attempts.clear()
        await eventually(lambda: len(network.attempts) >= 3, within_seconds=5)
        assert len(network.attempts) <= 4  # the driver's, on its backoff
        network.mode = Mode.OPEN
        await published(the_log, 2)
        await eventually(lambda: replica.state.status is Status.SEQUENCING, within_seconds=5)
    the_log.assert_whole()


async def test_stored_hashes_prove_what_they_should(the_log: Log) -> None:
    the_log.add("genesis")
    the_log.add(*["proposal-created"] * 299)
    async with sequencing(the_log):
        await published(the_log, 300)
    hashes = [merkle.leaf_hash(leaf) for leaf in the_log.leaves()]
    dsn = the_log.server.postgres.dsn("firewall_app")
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        for size in (1, 2, 7, 256, 257, 300):
            root = await log_tree.root_at(connection, size)
            for index in {0, size // 2, size - 1}:
                path = await log_tree.proof(connection, merkle.inclusion_ranges(index, size))
                merkle.verify_inclusion(leaf=hashes[index], index=index, size=size, proof=path, root=root)
            path = await log_tree.proof(connection, merkle.consistency_ranges(size, 300))
            whole = await log_tree.root_at(connection, 300)
            merkle.verify_consistency(first=size, first_root=root, second=300, second_root=whole, proof=path)
        with pytest.raises(log_tree.LogDamaged):
            await log_tree.root_at(connection, 301)


async def test_cancelled_in_the_middle_it_leaves_nothing_half_done(the_log: Log) -> None:
    the_log.add("genesis")
    for _ in range(5):
        the_log.add(*["proposal-created"] * 300)
        async with sequencing(the_log, batch_entries_max=50) as replica:
            await eventually(lambda: replica.state.status is Status.SEQUENCING, within_seconds=5)
    async with sequencing(the_log):
        await published(the_log, 1501)
    await asyncio.to_thread(the_log.assert_whole)
