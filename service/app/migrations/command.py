"""What the three commands share: settings, one clear line for each error, an exit code."""

import sys
from collections.abc import Callable
from typing import Final

import psycopg

from app import log, settings
from app.errors import InvalidSettings, MigrationFailed, MigrationLocked
from app.settings import MigratorSettings

EXIT_FAILED: Final = 1
EXIT_SCHEMA_MISMATCH: Final = 65
EXIT_UNAVAILABLE: Final = 69
EXIT_LOCKED: Final = 75
"""EX_TEMPFAIL of sysexits.h: another runner is at work, try again."""


def say(line: str) -> None:
    """Print a line of the command's result."""
    sys.stdout.write(line + "\n")


def complain(line: str) -> None:
    """Print a line that says what is wrong."""
    sys.stderr.write(line + "\n")


def run(work: Callable[[MigratorSettings], int]) -> int:
    """Do `work`; return its exit code, or that of what went wrong."""
    log.configure("warning")
    try:
        return work(settings.load_migrator(settings.process_environment()))
    except InvalidSettings as error:
        for problem in error.problems:
            complain(str(problem))
        return settings.EXIT_INVALID_SETTINGS
    except MigrationLocked as error:
        complain(str(error))
        return EXIT_LOCKED
    except MigrationFailed as error:
        complain(f"{error}; nothing of it was kept")
        return EXIT_FAILED
    except psycopg.OperationalError as error:
        complain(f"the database is not available ({type(error).__name__})")
        return EXIT_UNAVAILABLE
