"""How a command ends: exit codes are a contract (`amgf --help`, README), and every failure is one sentence.

0   done, and the answer is yes
1   done, and the answer is no: denied, rejected, another digest, an entry that does not follow
3   cannot say: something was not checked (no engine of that revision), or not settled in time
11-24  a bundle failed check 1-14; the first one that failed
64  used wrongly          65  the input is not what it should be     69  the service cannot be reached
73  cannot write there    75  not now: try again                     77  not allowed
130 interrupted
"""

from typing import Final

import click

YES: Final = 0
NO: Final = 1
UNDECIDED: Final = 3
CHECK_BASE: Final = 10
"""A bundle that fails check n ends with `CHECK_BASE` + n."""
USAGE: Final = 64
INPUT: Final = 65
UNAVAILABLE: Final = 69
CANNOT_WRITE: Final = 73
TRY_AGAIN: Final = 75
NOT_ALLOWED: Final = 77
INTERRUPTED: Final = 130


class Stop(click.ClickException):
    """Ends a command with a sentence and an exit code."""

    def __init__(self, sentence: str, *, code: int) -> None:
        super().__init__(sentence)
        self.code = code

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """What the process ends with."""
        return self.code


def bad_input(sentence: str) -> Stop:
    """Return what ends a command whose input is not what it should be."""
    return Stop(sentence, code=INPUT)
