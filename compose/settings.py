"""What a user may choose about the stack's programs, read from the environment in this one place.

`STACK_POSTGRES`       `embedded` (the wheel, default), `system` (on PATH or where the package puts it), or a folder
                       that holds `postgres`, `initdb` and the rest.
`STACK_TOOLS_FOLDER`   where set-up puts what it builds; default `.tools` in the repository.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
EMBEDDED: Final = "embedded"
SYSTEM: Final = "system"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where programs are taken from."""

    tools_folder: Path = REPOSITORY / ".tools"
    postgres: str = EMBEDDED


def load() -> Settings:
    """Read the settings from the environment; what is unset or empty keeps its default."""
    chosen = os.environ  # noqa: TID251 - this is settings.py
    default = Settings()
    return Settings(
        tools_folder=Path(chosen.get("STACK_TOOLS_FOLDER") or default.tools_folder),
        postgres=chosen.get("STACK_POSTGRES") or default.postgres,
    )


def child_environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return the environment for a program we start: ours, with some variables set, or taken out where None."""
    merged = {**os.environ, **changes}  # noqa: TID251 - this is settings.py
    return {name: value for name, value in merged.items() if value is not None}
