"""`python -m app.migrations.apply`: apply every version that is not applied yet.

Exit codes: 0 applied or nothing to do; 1 a version failed; 65 the database is ahead of this code or a version was
edited; 69 no database; 75 another runner is at work; 78 invalid settings.
"""

import sys

from app.migrations import catalogue, command, ledger, lock
from app.settings import MigratorSettings


def apply(settings: MigratorSettings) -> int:
    """Apply, under the lock, unless the database is one this code does not know."""
    with lock.held(settings.database, wait_seconds=settings.lock_wait_seconds) as connection:
        comparison = catalogue.compare(catalogue.expected(), ledger.applied(connection))
        if comparison.kind in {"ahead", "edited"}:
            command.complain(f"schema {comparison.kind}: {comparison.detail}; nothing was applied")
            return command.EXIT_SCHEMA_MISMATCH
        with ledger.Ledger(settings.database) as runner:
            done = runner.apply_pending()
    for version in done:
        command.say(f"applied {version}")
    if not done:
        command.say(f"nothing to apply: {comparison.detail}")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(apply))
