"""Where trust begins: the root document, of the target `governance/root`.

It names the log, the keys of log and service, and the founders. Keys that were replaced stay in `old_keys` with their
window, so that what they signed still verifies. Refused: a founder's key twice, weak keys, a threshold that nobody
could meet or one of several alone, one key for two uses.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from app.core.documents import instants
from app.core.governed.shapes import InstantText, Key64, Misshapen, Origin, Slug, Version, convert, plain
from app.core.signing import keys
from app.errors import Flaw, InvalidDocument

FOUNDERS_MAX: Final = 32
OLD_KEYS_MAX: Final = 256

Use = Literal["log", "service"]


class Founder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One who signs the genesis bundle."""

    id: Slug
    public_key: Key64


class OldKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key that was replaced; what it signed in its window still verifies."""

    public_key: Key64
    use: Use
    not_before: InstantText
    not_after: InstantText

    def is_valid_at(self, instant: datetime) -> bool:
        """Say whether the instant is in the window; its end is outside."""
        return instants.from_text(self.not_before) <= instant < instants.from_text(self.not_after)


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole document. `threshold`: how many founders sign."""

    v: Literal[1]
    version: Version
    origin: Origin
    log_key: Key64
    service_key: Key64
    threshold: Annotated[int, msgspec.Meta(ge=1, le=FOUNDERS_MAX)]
    founders: Annotated[tuple[Founder, ...], msgspec.Meta(min_length=1, max_length=FOUNDERS_MAX)]
    old_keys: Annotated[tuple[OldKey, ...], msgspec.Meta(max_length=OLD_KEYS_MAX)]

    def document(self) -> dict[str, Any]:
        """Return the document as plain JSON values."""
        return plain(self)

    def current(self, use: Use) -> bytes:
        """Return the 32 bytes of the key in use."""
        return keys.from_base64(self.log_key if use == "log" else self.service_key)

    def keys_at(self, use: Use, instant: datetime) -> tuple[bytes, ...]:
        """Return the key in use and the old ones whose window holds the instant."""
        old = [one for one in self.old_keys if one.use == use and one.is_valid_at(instant)]
        return self.current(use), *(keys.from_base64(one.public_key) for one in old)


def parse(document: Any) -> Root:
    """Return the root of a decoded document.

    Raises:
        InvalidDocument: with the flaws, each with its JSON pointer.
    """
    try:
        root = convert(document, Root)
    except Misshapen as error:
        raise InvalidDocument([error.flaw]) from None
    flaws = [*_founder_flaws(root), *_key_flaws(root), *_old_key_flaws(root)]
    if flaws:
        raise InvalidDocument(flaws)
    return root


def succession(before: Root | None, after: Root) -> list[Flaw]:
    """Return why one root does not follow another: the log keeps its name, and no key is forgotten.

    `before` is None at the beginning. Used by the constitution, and by whoever walks from a pinned root to the newest.
    """
    if before is None:
        is_first = after.version == 1 and not after.old_keys
        return [] if is_first else [Flaw("/version", "not-a-beginning", "the first is version 1, without old keys")]
    return [*_continuity(before, after), *_replaced_keys(before, after)]


def _continuity(before: Root, after: Root) -> Iterator[Flaw]:
    if after.version != before.version + 1:
        yield Flaw("/version", "not-the-next", f"version {before.version} is followed by {before.version + 1}")
    if after.origin != before.origin:
        yield Flaw("/origin", "other-log", "the log keeps its name")
    if after.threshold < before.threshold:
        yield Flaw("/threshold", "lowered", "the founders' threshold is never lowered")
    if after.old_keys[: len(before.old_keys)] != before.old_keys:
        yield Flaw("/old_keys", "forgotten", "old keys stay, in their order; new ones follow")


def _replaced_keys(before: Root, after: Root) -> Iterator[Flaw]:
    added = after.old_keys[len(before.old_keys) :]
    replaced: dict[str, str] = {}
    if before.log_key != after.log_key:
        replaced["log"] = before.log_key
    if before.service_key != after.service_key:
        replaced["service"] = before.service_key
    for use, public_key in replaced.items():
        if not any(one.use == use and one.public_key == public_key for one in added):
            yield Flaw(f"/{use}_key", "forgotten", "the key that is replaced goes to old_keys")
    for index, one in enumerate(added, start=len(before.old_keys)):
        if replaced.get(one.use) != one.public_key:
            yield Flaw(f"/old_keys/{index}", "never-in-use", "only a key that is replaced becomes an old one")


def _founder_flaws(root: Root) -> Iterator[Flaw]:
    if root.threshold > len(root.founders):
        yield Flaw("/threshold", "unreachable", "more than there are founders")
    if len(root.founders) > 1 and root.threshold < 2:  # noqa: PLR2004
        yield Flaw("/threshold", "one-alone", "where there are several founders, no one founds alone")
    if len({one.id for one in root.founders}) != len(root.founders):
        yield Flaw("/founders", "duplicate-id", "an id stands twice")


def _key_flaws(root: Root) -> Iterator[Flaw]:
    """Name weak keys, and keys in two places: a log key that signs votes or decisions mixes what it vouches for."""
    places = [("/log_key", root.log_key), ("/service_key", root.service_key)]
    places += [(f"/founders/{index}/public_key", one.public_key) for index, one in enumerate(root.founders)]
    places += [(f"/old_keys/{index}/public_key", one.public_key) for index, one in enumerate(root.old_keys)]
    seen: set[str] = set()
    for pointer, text in places:
        try:
            reason = keys.weakness(keys.from_base64(text))
        except ValueError:
            reason = "base64"
        if reason is not None:
            yield Flaw(pointer, "weak-key", f"the key is refused: {reason}")
        elif text in seen:
            yield Flaw(pointer, "duplicate-key", "one key, one use")
        seen.add(text)


def _old_key_flaws(root: Root) -> Iterator[Flaw]:
    for index, one in enumerate(root.old_keys):
        try:
            is_window = instants.from_text(one.not_before) < instants.from_text(one.not_after)
        except ValueError:
            is_window = False
        if not is_window:
            yield Flaw(f"/old_keys/{index}", "empty-window", "no window, or it ends before it begins")
