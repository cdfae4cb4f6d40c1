"""`python -m app.migrations.rollback`: take back the newest applied version, data in it included.

Exit codes: as `apply`, and 1 if nothing is applied.
"""

import sys

from app.migrations import catalogue, command, ledger, lock
from app.settings import MigratorSettings


def rollback(settings: MigratorSettings) -> int:
    """Take back one version, under the lock."""
    with lock.held(settings.database, wait_seconds=settings.lock_wait_seconds) as connection:
        comparison = catalogue.compare(catalogue.expected(), ledger.applied(connection))
        if comparison.kind in {"ahead", "edited"}:
            command.complain(f"schema {comparison.kind}: {comparison.detail}; nothing was taken back")
            return command.EXIT_SCHEMA_MISMATCH
        if comparison.kind == "missing":
            command.complain("nothing to take back")
            return command.EXIT_FAILED
        with ledger.Ledger(settings.database) as runner:
            command.say(f"took back {runner.roll_back_newest()}")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(rollback))
