"""The engine's identity: what must be equal for two simulations of the same inputs to be comparable.

`revision` counts the changes to our own rules of evaluation (patch, shadow, points, limits); it goes up with each one
that could change a record. The packages are those whose behaviour reaches the record.
"""

import sys
from functools import cache
from importlib.metadata import version
from typing import Any, Final

NAME: Final = "amgf-simulation"
REVISION: Final = 1
PACKAGES: Final = ("cel-expr-python", "jsonschema", "jsonschema-specifications", "msgspec", "referencing")


def describe() -> dict[str, Any]:
    """Return the engine as it stands in inputs and records."""
    return {"name": NAME, "revision": REVISION, "packages": dict(_packages())}


@cache
def _packages() -> dict[str, str]:
    found = {name: version(name) for name in PACKAGES}
    found["python"] = f"{sys.version_info.major}.{sys.version_info.minor}"
    return found
