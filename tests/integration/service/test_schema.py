"""What the database itself refuses, whoever asks: the owner and an application that was taken over included."""

import hashlib
import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

from app.core.governed import lifecycle
from app.core.governed.lifecycle import State
from compose.postgres_template import APPLICATION
from tests.integration.service.running import Server

pytestmark = pytest.mark.integration

LEGAL = {(step.state_from, step.state_to) for step in lifecycle.TRANSITIONS}
WAYS = list(itertools.product((None, *State), State))
EMPTY = "sha256:" + hashlib.sha256(b"{}").hexdigest()


@pytest.fixture(scope="module")
def connection(server: Server) -> Iterator[psycopg.Connection[Any]]:
    server.add_target("schema/tests", {})
    server.add_target("schema/others", {})
    with server.connect() as made:
        yield made


def begin(connection: psycopg.Connection[Any], state: str = "pending", **change: Any) -> uuid.UUID:
    row = {
        "id": uuid.uuid4(),
        "target": "schema/tests",
        "base_digest": EMPTY,
        "kind": "mutation",
        "content": uuid.uuid4().bytes,
        **change,
    }
    connection.execute(
        "INSERT INTO proposals (id, principal, kind, target, base_version, base_digest, body, body_digest, content,"
        " proposal_digest, created_at, state, expires_at)"
        " VALUES (%(id)s, 'tester', %(kind)s, %(target)s, 1, %(base_digest)s, '', encode(sha256(''), 'hex'),"
        " %(content)s, sha256_text(%(content)s), now(), %(state)s, now())",
        {**row, "state": state},
    )
    return uuid.UUID(str(row["id"]))


def step(connection: psycopg.Connection[Any], proposal: uuid.UUID, state: str) -> None:
    connection.execute("UPDATE proposals SET state = %s, revision = revision + 1 WHERE id = %s", [state, proposal])


def ways_to(state: State) -> list[State]:
    """Return the shortest way from pending."""
    ways = {State.PENDING: [State.PENDING]}
    while state not in ways:
        for known in lifecycle.TRANSITIONS:
            if known.state_from in ways and known.state_to not in ways:
                ways[known.state_to] = [*ways[known.state_from], known.state_to]
    return ways[state]


def test_the_database_and_the_code_hold_one_table(connection: psycopg.Connection[Any]) -> None:
    stored = connection.execute("SELECT number, state_from, state_to, event FROM transitions").fetchall()

    assert set(stored) == {(one.number, one.state_from, one.state_to, one.event) for one in lifecycle.TRANSITIONS}
    assert len(stored) == len(lifecycle.TRANSITIONS)


@pytest.mark.parametrize(("state_from", "state_to"), WAYS, ids=str)
def test_the_database_takes_the_steps_of_the_table_and_no_other(
    connection: psycopg.Connection[Any], state_from: State | None, state_to: State
) -> None:
    def take() -> None:
        if state_from is None:
            begin(connection, state_to)
            return
        proposal = begin(connection)
        for state in ways_to(state_from)[1:]:
            step(connection, proposal, state)
        connection.execute("SAVEPOINT before")
        step(connection, proposal, state_to)

    with connection.transaction(force_rollback=True):
        if (state_from, state_to) in LEGAL or state_from == state_to:
            take()
        else:
            with pytest.raises(errors.CheckViolation, match="no transition"):
                take()


def test_a_step_without_a_new_revision_is_refused(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction(force_rollback=True):
        proposal = begin(connection)
        with pytest.raises(errors.CheckViolation, match="one revision"):
            connection.execute("UPDATE proposals SET state = 'simulating' WHERE id = %s", [proposal])


def test_one_target_has_one_application_at_a_time(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction(force_rollback=True):
        first, second = begin(connection), begin(connection)
        for state in ways_to(State.APPROVED)[1:]:
            step(connection, first, state)
            step(connection, second, state)
        step(connection, first, "applying")
        with pytest.raises(errors.UniqueViolation) as refused:
            step(connection, second, "applying")

    assert refused.value.diag.constraint_name == "proposals_one_applying"


def test_equal_content_is_open_once_and_again_when_it_is_closed(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction(force_rollback=True):
        first = begin(connection, content=b"same")
        with pytest.raises(errors.UniqueViolation) as refused, connection.transaction():
            begin(connection, content=b"same")
        step(connection, first, "withdrawn")
        begin(connection, content=b"same")

    assert refused.value.diag.constraint_name == "proposals_one_open"


ADD_SNAPSHOT = """
    INSERT INTO snapshots (target, version, parent_version, digest, parent_digest, proposal_id, content, created_at)
    VALUES ('schema/tests', %(version)s, %(parent)s, %(digest)s, %(digest)s, %(proposal)s, '{}', now())"""

REFUSED_OF_TARGETS: dict[str, tuple[str, dict[str, Any]]] = {
    "a version that jumps": ("UPDATE targets SET version = 3 WHERE name = 'schema/tests'", {}),
    "a version that falls": ("UPDATE targets SET version = 0 WHERE name = 'schema/tests'", {}),
    "other content under the same version": (
        "UPDATE targets SET digest = sha256_text('other') WHERE name = 'schema/tests'",
        {},
    ),
    "a current version that is not there": (
        "UPDATE targets SET version = 2 WHERE name = 'schema/tests'",
        {},
    ),
    "one version twice": (ADD_SNAPSHOT, {"version": 1, "parent": None, "digest": EMPTY}),
    "a parent that is not the one before": (ADD_SNAPSHOT, {"version": 3, "parent": 1, "digest": EMPTY}),
    "content of another digest": (ADD_SNAPSHOT, {"version": 2, "parent": 1, "digest": "sha256:" + "0" * 64}),
    "a changed snapshot": ("UPDATE snapshots SET created_at = now()", {}),
    "a snapshot that goes": ("DELETE FROM snapshots", {}),
    "a new row in the table of transitions": (
        "INSERT INTO transitions VALUES ('applied', 'pending', 18, 'invented')",
        {},
    ),
}


@pytest.mark.parametrize("case", REFUSED_OF_TARGETS)
def test_history_of_targets_is_fixed(connection: psycopg.Connection[Any], case: str) -> None:
    statement, parameters = REFUSED_OF_TARGETS[case]
    with connection.transaction(force_rollback=True):
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        given = {**parameters, "proposal": begin(connection)} if parameters else None
        with pytest.raises(errors.Error) as refused:
            connection.execute(statement.encode(), given)

    assert refused.value.sqlstate is not None
    assert refused.value.sqlstate[:2] in {"23", "42"}


STALE: dict[str, dict[str, Any]] = {
    "of another version": {"version": 3, "parent": 2},
    "of another content": {"base_digest": "sha256:" + "0" * 64},
    "of another target": {"target": "schema/others"},
}


@pytest.mark.parametrize("case", STALE)
def test_a_version_stands_on_the_base_of_its_own_proposal(connection: psycopg.Connection[Any], case: str) -> None:
    made = {"version": 2, "parent": 1, "digest": EMPTY, **STALE[case]}
    proposal = {name: STALE[case][name] for name in ("base_digest", "target") if name in STALE[case]}
    with connection.transaction(force_rollback=True):
        connection.execute(ADD_SNAPSHOT, {**made, "version": 2, "parent": 1, "proposal": begin(connection)})
    with connection.transaction(force_rollback=True), pytest.raises(errors.ForeignKeyViolation) as refused:
        connection.execute(ADD_SNAPSHOT, {**made, "proposal": begin(connection, **proposal)})

    assert refused.value.diag.constraint_name == "snapshots_stand_on_their_base"


def test_a_proposal_keeps_its_content_whoever_asks(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction(force_rollback=True):
        begin(connection)
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("UPDATE proposals SET target = 'other' WHERE target = 'schema/tests'")


UNGRANTED = (
    "DELETE FROM proposals",
    "UPDATE proposals SET content = ''",
    "UPDATE snapshots SET content = ''",
    "UPDATE events SET leaf = ''",
    "DELETE FROM events",
    "TRUNCATE votes",
    "UPDATE votes SET decision = 'approve'",
    "UPDATE decisions SET tally = ''",
    "UPDATE targets SET config = ''",
    "INSERT INTO transitions VALUES ('applied', 'pending', 18, 'invented')",
    "DELETE FROM transitions",
    "INSERT INTO proposals_0001 DEFAULT VALUES",
    "ALTER TABLE proposals DISABLE TRIGGER ALL",
)


@pytest.mark.parametrize("statement", UNGRANTED)
def test_the_application_has_no_right_to_rewrite(server: Server, statement: str) -> None:
    with server.connect(APPLICATION) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement.encode())
