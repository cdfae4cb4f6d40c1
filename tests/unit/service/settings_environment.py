"""A service's environment that is right, and the ways in which each of its settings can be wrong."""

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from app.settings import PREFIX
from app.settings.environment import MODELS, ServiceEnvironment
from app.settings.kinds import PEPPER_BYTES_MIN

PASSWORD = "correct-horse-battery-staple-of-32-bytes"  # noqa: S105 - of these tests
PEPPER = "another-horse-battery-staple-of-many-bytes"
SEED = base64.b64encode(bytes(range(32))).decode()
CANARY = "canary-4b1d-never-to-be-shown"
Environ = dict[str, str]


def write(folder: Path, name: str, text: str = PASSWORD, mode: int = 0o600) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def environment(folder: Path) -> Environ:
    """Return what a service in production needs, and nothing more."""
    return {
        "PATH": "/bin",
        f"{PREFIX}ENVIRONMENT": "production",
        f"{PREFIX}REPLICA": "replica-1",
        f"{PREFIX}DATABASE_HOST": "127.0.0.1",
        f"{PREFIX}DATABASE_PASSWORD_FILE": str(write(folder, "password")),
        f"{PREFIX}API_KEY_PEPPER_FILE": str(write(folder, "pepper", PEPPER)),
    }


@dataclass(frozen=True)
class Wrong:
    """One way in which one setting is wrong: its value, `None` for left out, or the content of its secret file."""

    model: type[Any]
    field: str
    way: str
    value: str | None = None
    content: str | None = None
    mode: int = 0o600

    @property
    def name(self) -> str:
        return PREFIX + self.field.upper()

    def __str__(self) -> str:
        return f"{self.field}-{self.way}"

    def apply(self, environ: Environ, folder: Path) -> None:
        if self.content is not None:
            environ[self.name] = str(write(folder, "unfit", self.content, self.mode))
        elif self.value is None:
            environ.pop(self.name, None)
        else:
            environ[self.name] = self.value.replace("{folder}", str(folder))


def every_wrong() -> Iterator[Wrong]:
    """Yield every setting of the service and its commands times every way that its own schema knows."""
    seen: set[str] = set()
    for model in MODELS:
        for field, info in model.model_fields.items():
            if field not in seen:
                seen.add(field)
                yield from (Wrong(model, field, **way) for way in _ways(field, info))


def _ways(field: str, info: FieldInfo) -> Iterator[dict[str, Any]]:
    if info.is_required():
        yield {"way": "missing"}
    yield {"way": "empty", "value": ""}
    yield {"way": "blank", "value": "  "}
    if info.annotation in {int, float}:
        yield from _wrong_numbers(info)
    elif field.endswith("_file") and field != "log_watermark_file":
        yield from _wrong_files(field)
    elif field == "log_watermark_file":
        yield from ({"way": one, "value": one} for one in ("relative", "/nowhere/at/all/mark", "/tmp"))  # noqa: S108
    elif get_origin(info.annotation) is tuple:
        yield from ({"way": way, "value": value} for way, value in (("gap", "a,,b"), ("spaces", f"a,{CANARY} b")))
        yield {"way": "too many", "value": ",".join(["127.0.0.1"] * 101)}
    elif get_origin(info.annotation) is dict:
        wrong = ("ann", "ann=", "=1", "ann=0", "ann=1000001", "ann=1,ann=2", "Ann=1", "ann=1;ben=2", f"{CANARY} x=1")
        yield from ({"way": one, "value": one} for one in wrong)
    elif field in {"environment", "log_level"}:
        yield from ({"way": f"not {one}", "value": one.upper()} for one in get_args(info.annotation))
        yield {"way": "another", "value": CANARY}
    else:
        yield from ({"way": way, "value": value} for way, value in _wrong_words())


def _wrong_numbers(info: FieldInfo) -> Iterator[dict[str, Any]]:
    (least,) = [one.ge for one in info.metadata if isinstance(one, Ge)]
    (most,) = [one.le for one in info.metadata if isinstance(one, Le)]
    assert isinstance(least, int | float)
    assert isinstance(most, int | float)
    step = 1 if info.annotation is int else 0.001
    yield {"way": "below", "value": str(least - step)}
    yield {"way": "above", "value": str(most + step)}
    others = ["true", "1,5", "0x10", "1e400", "nan", "inf", "5s", "1; DROP TABLE", "é", "\udcff", CANARY]
    others += ["1.5"] if info.annotation is int else []
    yield from ({"way": ascii(one), "value": one} for one in others)


def _wrong_files(field: str) -> Iterator[dict[str, Any]]:
    yield {"way": "no such file", "value": "/nowhere/at/all"}
    yield {"way": "a folder", "value": "/"}
    yield {"way": "a device", "value": "/dev/null"}
    yield {"way": "a NUL in its name", "value": "/tmp\0x"}  # noqa: S108 - no file of ours
    yield {"way": "the secret itself", "value": CANARY}
    yield {"way": "empty file", "content": ""}
    yield {"way": "blank file", "content": " \n"}
    yield {"way": "too long", "content": CANARY * 500}
    yield {"way": "NUL", "content": f"{CANARY}\0{CANARY}"}
    yield from ({"way": word, "content": word} for word in ("changeme", "Password123!", "secret\n"))
    yield from ({"way": oct(mode), "content": CANARY * 2, "mode": mode} for mode in (0o640, 0o604, 0o660))
    if field in {"service_key_file", "log_key_file"}:
        seeds = {"no base64": CANARY, "short seed": base64.b64encode(bytes(range(31))).decode(), "half": SEED[:22]}
        yield from ({"way": way, "content": content} for way, content in seeds.items())
    elif field not in {"database_password_file", "valkey_password_file"} and not field.startswith("migrator"):
        yield {"way": "short", "content": PEPPER[: PEPPER_BYTES_MIN - 1]}


def _wrong_words() -> Iterator[tuple[str, str]]:
    yield "two words", f"{CANARY} {CANARY}"
    yield "a line break", f"{CANARY}\nFIREWALL_PORT: fine"
    yield "too long", CANARY * 50
    yield "no UTF-8", "\udcff"
    yield "a command", "$(id)"


def fields_of_the_service() -> frozenset[str]:
    return frozenset(ServiceEnvironment.model_fields)


def pipe(folder: Path) -> Path:
    """Make a pipe that nobody will ever write to."""
    path = folder / "pipe"
    os.mkfifo(path, 0o600)
    return path
