"""What the settings are: the effective ones with their sources, secrets left out, and the reference of all of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from pydantic.fields import FieldInfo

from app.settings.environment import MODELS, PREFIX, DatabaseEnvironment
from app.settings.policies import Secret

DEFAULT: Final = "default"
ENVIRONMENT: Final = "environment"
NOTHING: Final = "none"


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting as it is in force; of a secret only the file that it was read from."""

    name: str
    value: str
    source: str
    """`environment` or `default`."""


def effective(read: DatabaseEnvironment, environ: Mapping[str, str]) -> Iterator[Shown]:
    """Yield every setting of a model that was read from `environ`."""
    for field in type(read).model_fields:
        name = PREFIX + field.upper()
        value = getattr(read, field)
        shown = f"(secret, from {environ[name]})" if isinstance(value, Secret) else written(value)
        yield Shown(name, shown, ENVIRONMENT if name in environ else DEFAULT)


def reference() -> str:
    """Return the table of all settings, in Markdown."""
    rows = ["| variable | default | accepted | meaning |", "|---|---|---|---|"]
    fields: dict[str, FieldInfo] = {}
    for model in MODELS:
        for field, info in model.model_fields.items():
            fields.setdefault(field, info)  # the service's own: a command may require more
    for field, info in fields.items():
        default = "required" if info.is_required() else written(info.default)
        rows.append(f"| `{PREFIX}{field.upper()}` | {default} | {accepted(info)} | {info.description or ''} |")
    return "\n".join(row.replace("|  |", "| |") for row in rows) + "\n"


def accepted(field: FieldInfo) -> str:
    """Return what a setting accepts, in words."""
    return field.title or next(_titles(field.annotation), "")


def written(value: Any) -> str:
    """Return a value as one would write it into the environment."""
    if value is None or value == ():
        return NOTHING
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return (
        f"{value:.15g}" if isinstance(value, float) else str(value) if not isinstance(value, Path) else value.as_posix()
    )


def _titles(annotation: Any) -> Iterator[str]:
    """Yield the titles inside an optional kind: `SeedFile | None`."""
    for part in get_args(annotation):
        yield from (one.title for one in getattr(part, "__metadata__", ()) if isinstance(one, FieldInfo) and one.title)
