"""What a person sees: no byte of a stranger's reaches the terminal as anything but a picture of itself.

Control characters, bidirectional overrides, zero-width and other invisible characters are shown as escapes, and a word
that mixes scripts (a Cyrillic a in a Latin word) is marked: what looks like one text must not be another (firewall.md
section 13).
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

LINE_CHARACTERS_MAX: Final = 160
VISIBLE_CATEGORIES: Final = frozenset("LMNPSZ")
INVISIBLE: Final = frozenset("\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u3164\ufeff\uffa0")
SCRIPTS_CONFUSED: Final = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE")
MARK: Final = "\u26a0"
_WORD: Final = re.compile(r"[^\W\d_]+")


def text(content: object) -> str:
    """Return a text in one line in which every character that does not show itself is an escape."""
    shown = "".join(_character(one) for one in str(content))
    return f"{shown} {MARK} mixes scripts" if mixes_scripts(str(content)) else shown


def lines(content: str) -> list[str]:
    """Return a text of several lines, each safe to show."""
    return [text(line) for line in content.split("\n")]


def value(content: Any) -> str:
    """Return a JSON value in one line, safe to show, cut where it gets too long."""
    shown = text(json.dumps(content, ensure_ascii=False, sort_keys=True))
    if len(shown) <= LINE_CHARACTERS_MAX:
        return shown
    return f"{shown[: LINE_CHARACTERS_MAX - 1]}… ({len(shown)} characters)"


def mixes_scripts(content: str) -> bool:
    """Whether a word in it has letters of two scripts that look alike."""
    return any(len(set(_scripts(word))) > 1 for word in _WORD.findall(content) if not word.isascii())


def _scripts(word: str) -> Iterator[str]:
    for letter in word:
        script = unicodedata.name(letter, "").partition(" ")[0]
        if script in SCRIPTS_CONFUSED:
            yield script


def _character(one: str) -> str:
    category = unicodedata.category(one)
    is_visible = category[0] in VISIBLE_CATEGORIES and category not in {"Zl", "Zp"} and one not in INVISIBLE
    if is_visible and (category != "Zs" or one == " "):
        return one
    return f"\\u{ord(one):04x}" if ord(one) <= 0xFFFF else f"\\U{ord(one):08x}"  # noqa: PLR2004 - the basic plane
