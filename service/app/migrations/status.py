"""`python -m app.migrations.status`: what is applied, and whether this code may work on it.

Exit codes: 0 compatible; 65 not; 69 no database; 78 invalid settings.
"""

import sys

from app.migrations import catalogue, command, ledger, lock
from app.settings import MigratorSettings


def status(settings: MigratorSettings) -> int:
    """Print each version and the verdict; takes no lock."""
    with lock.connect(settings.database) as connection:
        applied = ledger.applied(connection)
    wanted = catalogue.expected()
    for version in wanted:
        state = "pending" if version.id not in applied else "applied"
        if applied.get(version.id, version.checksum) != version.checksum:
            state = "edited"
        command.say(f"{state:8} {version.id}")
    for unknown in sorted(set(applied) - {version.id for version in wanted}):
        command.say(f"{'unknown':8} {unknown}")
    comparison = catalogue.compare(wanted, applied)
    command.say(f"schema {comparison.kind}: {comparison.detail}")
    return 0 if comparison.is_compatible else command.EXIT_SCHEMA_MISMATCH


if __name__ == "__main__":
    sys.exit(command.run(status))
