"""Where the specification lies, and how one of its YAML files becomes a struct.

Refuses unknown keys, missing keys and wrong types: a misspelt key never means "nothing was said".
"""

from pathlib import Path
from typing import TypeVar

import msgspec

SLO_FOLDER = Path(__file__).resolve().parent
SPECIFICATION = SLO_FOLDER / "spec"

T = TypeVar("T")


class InvalidSpecificationError(Exception):
    """A file of the specification, or something it says, cannot be used; the message says where and why."""


def read(path: Path, kind: type[T]) -> T:
    """Decode one YAML file strictly.

    Raises:
        InvalidSpecificationError: the file is missing, no YAML, or not of that kind.
    """
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=kind, strict=True)
    except (OSError, msgspec.MsgspecError) as problem:
        raise InvalidSpecificationError(f"{path.name}: {problem}") from problem
