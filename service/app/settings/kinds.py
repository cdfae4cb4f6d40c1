"""The kinds of values that settings have, and what each accepts (FM16).

A `Field`'s title is what is accepted, in words for the one who has to correct it. A value is never part of a message:
a secret pasted into the wrong variable must not reach a log.
"""

import base64
import binascii
import errno
import ipaddress
import json
import os
import re
import stat
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from app.settings.policies import Secret

SECRET_BYTES_MAX: Final = 4096
PEPPER_BYTES_MIN: Final = 32
SEED_BYTES: Final = 32
TOKEN_KEYS_BYTES_MAX: Final = 65_536
PRINCIPAL: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
KNOWN_BAD_SECRETS: Final = frozenset(
    {"admin", "changeme", "default", "example", "firewall", "letmein", "password", "postgres", "secret", "test"}
)
"""Letters alone count, so that `Changeme-123!` is `changeme`."""

_UNREADABLE: Final = {errno.ENOENT: "there is no such file", errno.EACCES: "the file may not be read"}


def whole(minimum: int, maximum: int) -> Any:
    """Return the field of a whole number."""
    return Field(ge=minimum, le=maximum, title=f"a whole number from {minimum} to {maximum}")


def seconds(minimum: float, maximum: float) -> Any:
    """Return the field of a length of time."""
    accepted = f"a number of seconds from {minimum:.15g} to {maximum:.15g}"
    return Field(ge=minimum, le=maximum, allow_inf_nan=False, title=accepted)


def word(pattern: str, accepted: str) -> Any:
    """Return the field of a text that a pattern describes."""
    return Field(pattern=pattern, title=accepted)


class Unfit(ValueError):
    """A value cannot be used; the text says why in words of ours, which never hold the value."""


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _split_limits(value: object) -> object:
    """Read `name=250,other=1000` as limits by name."""
    if not isinstance(value, str):
        return value
    limits = {}
    for part in value.split(","):
        name, separator, number = part.strip().partition("=")
        if not separator or name in limits or not PRINCIPAL.fullmatch(name) or not re.fullmatch(r"[0-9]{1,7}", number):
            raise Unfit("one of them is not a principal, an equals sign and a number, or stands there twice")
        limits[name] = int(number)
    return limits


def read_private(path: object, bytes_max: int) -> bytes:
    """Read a file that only its owner may read; what waits for a writer (a pipe) is not waited for.

    Raises:
        Unfit: it cannot be read, is open to others, or is empty or too long.
    """
    try:
        descriptor = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unfit(_UNREADABLE.get(error.errno or 0, "the file cannot be read")) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise Unfit("not a regular file")
        if mode & 0o077:
            raise Unfit("the file is open to its group or to others")
        content = os.read(descriptor, bytes_max + 1).rstrip(b"\r\n")
    except OSError:
        raise Unfit("the file cannot be read") from None
    finally:
        os.close(descriptor)
    if not content.strip():
        raise Unfit("the file is empty or blank")
    if len(content) > bytes_max:
        raise Unfit(f"the file is longer than {bytes_max} bytes")
    return content


def read_token_keys(path: object) -> bytes:
    """Return the content of the file of token keys; `app.security.token_keys` knows what it means.

    Raises:
        Unfit: it cannot be read, is open to others, or is empty or too long.
    """
    return read_private(path, TOKEN_KEYS_BYTES_MAX)


def _a_key_file(path: object) -> Path:
    try:
        is_object = isinstance(json.loads(read_token_keys(path)), dict)
    except (UnicodeDecodeError, json.JSONDecodeError):
        is_object = False
    if not is_object:
        raise Unfit("the file holds no JSON object")
    return Path(str(path))


def _read_secret(path: object) -> Secret:
    content = read_private(path, SECRET_BYTES_MAX)
    if b"\0" in content:
        raise Unfit("the file holds a NUL byte")
    if "".join(filter(str.isalpha, content.decode("utf-8", "replace").lower())) in KNOWN_BAD_SECRETS:
        raise Unfit("the file holds a well-known default")
    return Secret(content)


def _read_seed(path: object) -> Secret:
    """Read a key file: one line, standard base64 of the seed's 32 bytes."""
    try:
        seed = base64.b64decode(_read_secret(path).reveal(), validate=True)
    except binascii.Error:
        raise Unfit("the file is not standard base64") from None
    if len(seed) != SEED_BYTES:
        raise Unfit(f"the file does not hold {SEED_BYTES} bytes")
    return Secret(seed)


def _in_a_folder(path: Path) -> Path:
    if not path.is_absolute():
        raise Unfit("not an absolute path")
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise Unfit("no file can be written there")
    return path


def _long_enough(pepper: Secret) -> Secret:
    if len(pepper.reveal()) < PEPPER_BYTES_MIN:
        raise Unfit(f"the file holds fewer than {PEPPER_BYTES_MIN} bytes")
    return pepper


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise Unfit("one of them is not an IP address") from None


_FILE_RULE: Final = "a readable file with mode 0600, not empty, not a well-known default"
Host = Annotated[str, word(r"^[A-Za-z0-9._:\-\[\]]{1,253}$", "a host name that resolves, or an IP address")]
Port = Annotated[int, whole(1, 65535)]
Role = Annotated[str, word(r"^[a-z_][a-z0-9_]{0,62}$", "lower-case letters, digits and _, at most 63")]
SecretFile = Annotated[Any, BeforeValidator(_read_secret), Field(title=_FILE_RULE)]
Pepper = Annotated[
    Any,
    BeforeValidator(_read_secret),
    AfterValidator(_long_enough),
    Field(title=f"{_FILE_RULE}, at least {PEPPER_BYTES_MIN} bytes"),
]
SeedFile = Annotated[
    Any, BeforeValidator(_read_seed), Field(title=f"{_FILE_RULE}: standard base64 of a {SEED_BYTES}-byte seed")
]
Origin = Annotated[
    str,
    word(r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}$", "the log's name, like a URL without scheme: firewall.example/log"),
]
FileInFolder = Annotated[
    Path, AfterValidator(_in_a_folder), Field(title="an absolute path in a folder that can be written to")
]
TokenKeysFile = Annotated[
    Path,
    BeforeValidator(_a_key_file),
    Field(title=f"a readable file with mode 0600, not empty, at most {TOKEN_KEYS_BYTES_MAX} bytes"),
]
Party = Annotated[
    str, word(r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}$", "the exact text that tokens say, such as an https address")
]
RatePerMinute = Annotated[int, whole(1, 1_000_000)]
PrincipalLimits = Annotated[
    dict[str, RatePerMinute],
    NoDecode,
    BeforeValidator(_split_limits),
    Field(max_length=100, title="principals and requests a minute: name=250,other=1000, 1 to 1000000 each"),
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:\-\[\]]{1,253}$")]
Names = Annotated[
    tuple[Name, ...],
    NoDecode,
    BeforeValidator(_split),
    Field(min_length=1, max_length=100, title="1 to 100 host names or addresses separated by commas"),
]
NamesIfAny = Annotated[
    tuple[Name, ...],
    NoDecode,
    BeforeValidator(_split),
    Field(max_length=100, title="at most 100 host names or addresses separated by commas"),
]
Addresses = Annotated[
    tuple[Annotated[str, AfterValidator(_address)], ...],
    NoDecode,
    BeforeValidator(_split),
    Field(min_length=1, max_length=100, title="1 to 100 IP addresses separated by commas"),
]
