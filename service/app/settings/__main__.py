"""`python -m app.settings`: what is in force, and what there is to set.

`show` (without a word: this) prints every setting of the service with its source, secrets left out; `--json` for
machines. With a wrong one it says what is wrong, as the service itself would, and starts nothing. `reference` prints
the table in service/README.md. Exit codes: 0; 78 the settings are not acceptable; 64 another word.
"""

import json
import sys
from collections.abc import Sequence
from typing import Final

from app import settings
from app.errors import InvalidSettings
from app.settings.environment import ServiceEnvironment
from app.settings.reading import read_environment
from app.settings.shown import effective, reference

EXIT_USAGE: Final = 64


def main(words: Sequence[str]) -> int:
    """Do what the words say; return the exit code."""
    match [*words]:
        case ["reference"]:
            sys.stdout.write(reference())
            return 0
        case [] | ["show"]:
            return show(as_json=False)
        case ["--json"] | ["show", "--json"]:
            return show(as_json=True)
        case _:
            sys.stderr.write("usage: python -m app.settings [show] [--json] | reference\n")
            return EXIT_USAGE


def show(*, as_json: bool) -> int:
    """Print what the service would start with."""
    environ = settings.process_environment()
    try:
        shown = [*effective(read_environment(ServiceEnvironment, environ), environ)]
    except InvalidSettings as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
        return settings.EXIT_INVALID_SETTINGS
    if as_json:
        document = {one.name: {"value": one.value, "source": one.source} for one in shown}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return 0
    name_width, value_width = (max(len(getattr(one, part)) for one in shown) for part in ("name", "value"))
    for one in shown:
        sys.stdout.write(f"{one.name:{name_width}}  {one.value:{value_width}}  {one.source}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
