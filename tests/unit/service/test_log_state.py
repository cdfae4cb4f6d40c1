"""What a replica knows to be published never shrinks, until it is told to forget."""

from app.storage.log_quarantine import Quarantine
from app.workflow.log_state import LogState

WHY = Quarantine("rewound", 1, 2)


def state() -> LogState:
    return LogState(is_on=True, clock=lambda: 0.0)


def test_older_checkpoint_does_not_replace_a_newer_one() -> None:
    known = state()

    assert [known.confirmed(b"two", size=2), known.confirmed(b"one", size=1)] == [True, False]
    assert known.published() == (b"two", 0.0)


def test_same_size_is_confirmed_again() -> None:
    known = state()
    known.confirmed(b"two", size=2)

    assert known.confirmed(b"two", size=2)


def test_quarantine_forgets_nothing() -> None:
    known = state()
    known.confirmed(b"two", size=2)

    known.enter_quarantine(WHY)
    known.follow()

    assert known.published() == (b"two", 0.0)


def test_once_it_is_to_forget_a_smaller_checkpoint_is_taken() -> None:
    known = state()
    known.confirmed(b"two", size=2)

    known.forget()

    assert (known.published(), known.published_size) == (None, 0)
    assert known.confirmed(b"one", size=1)
