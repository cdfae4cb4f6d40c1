"""`python -m app`: read the settings, then serve.

Exit codes (docs/adr/0006): 0 stopped as asked; 65 the database has another schema (FM03); 69 a port is taken; 78 the
settings are not acceptable (FM16).
"""

import sys

from app import log, settings
from app.errors import InvalidSettings


def main() -> int:
    """Run the service; return its exit code."""
    log.configure()
    try:
        told = settings.load(settings.process_environment())
        log.configure(told.server.log_level)
        # Only now, since it takes most of a start: whoever is misconfigured says so at once (FM16: fail-fast).
        from app import serving  # noqa: PLC0415

        return serving.run(told)
    except InvalidSettings as error:
        return refuse(error)


def refuse(error: InvalidSettings) -> int:
    """Say every problem in a line, on stderr for people and in the log; return the exit code."""
    for problem in error.problems:
        log.get().error("setting_refused", setting=problem.name, problem=problem.what, accepted=problem.accepted)
        sys.stderr.write(f"{problem}\n")
    return settings.EXIT_INVALID_SETTINGS


if __name__ == "__main__":
    sys.exit(main())
