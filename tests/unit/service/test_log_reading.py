"""Nobody is shown a smaller checkpoint than somebody was before: not by a database that is behind, nor by a race."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from app.errors import DatabaseUnavailable, NotFound
from app.resilience.deadline import Deadline
from app.storage.log_tree import StoredCheckpoint
from app.workflow.log_reading import LogReading, Published
from app.workflow.log_state import LogState

BEHIND = StoredCheckpoint(1, bytes(32), b"one")
NEWER = StoredCheckpoint(3, bytes(32), b"three")


class Database:
    """Answers a read; `meanwhile` happens before it does."""

    def __init__(self, answer: StoredCheckpoint | Exception | None, meanwhile: Callable[[], object]) -> None:
        self._answer = answer
        self._meanwhile = meanwhile

    async def read(self, operation: str, work: object, *, deadline: Deadline) -> StoredCheckpoint | None:
        del operation, work, deadline
        self._meanwhile()
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def checkpoint(
    answer: StoredCheckpoint | Exception | None, *, known: int = 2, meanwhile: Callable[[LogState], object] = id
) -> Published:
    state = LogState(is_on=True, clock=lambda: 0.0)
    if known:
        state.confirmed(b"two", size=known)
    database: Any = Database(answer, lambda: meanwhile(state))
    deadline = Deadline.after(1.0, lambda: 0.0)
    return asyncio.run(LogReading(database, state).checkpoint(deadline=deadline))


def test_newest_of_the_database_is_answered_without_an_age() -> None:
    assert checkpoint(NEWER) == Published(b"three", None)


@pytest.mark.parametrize("answer", [BEHIND, None, DatabaseUnavailable(retry_after_seconds=1, reason="lost")])
def test_database_that_is_behind_empty_or_gone_leaves_what_is_known(
    answer: StoredCheckpoint | Exception | None,
) -> None:
    assert checkpoint(answer) == Published(b"two", 0.0)


@pytest.mark.parametrize("answer", [BEHIND, DatabaseUnavailable(retry_after_seconds=1, reason="lost")])
def test_what_others_were_shown_while_it_was_asked_counts(answer: StoredCheckpoint | Exception) -> None:
    shown = checkpoint(answer, meanwhile=lambda state: state.confirmed(b"three", size=3))

    assert shown == Published(b"three", 0.0)


def test_without_anything_published_there_is_nothing() -> None:
    with pytest.raises(NotFound):
        checkpoint(None, known=0)
    with pytest.raises(DatabaseUnavailable):
        checkpoint(DatabaseUnavailable(retry_after_seconds=1, reason="lost"), known=0)
