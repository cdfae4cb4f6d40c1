"""Where a decoded value does not fit a struct, and by which rule (FM12: "Validation errors provide clear messages").

msgspec says "Expected `str`, got `int` - at `$.patch[0].op`", and of a missing field that its object lacks it; here
that becomes a JSON pointer to the field itself, a code for the rule, and msgspec's sentence.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from app.core.documents.pointer import join
from app.errors import Flaw

SENTENCE_CHARACTERS_MAX: Final = 200
"""A sentence may quote a field name of the client's."""
_FIELD: Final = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)
_FIELD_CODES: Final = {"missing required": "missing-field", "contains unknown": "unknown-field"}
# The first that is found counts; what none of them finds is an `invalid-value`.
_RULES: Final[Sequence[tuple[str, str]]] = (
    (", got `", "wrong-type"),
    (" matching regex ", "wrong-pattern"),
    (" of length ", "wrong-length"),
    ("` >= ", "out-of-range"),
    ("` <= ", "out-of-range"),
    ("Invalid enum value ", "not-a-choice"),
    ("Invalid value ", "not-a-choice"),
)


def flaw_of(error: msgspec.ValidationError) -> Flaw:
    """Return the flaw that a conversion stopped at."""
    sentence, found, path = str(error).rpartition(" - at `")
    if not found:
        sentence, path = path, ""
    steps = path.removeprefix("key in ").strip("`$.").replace("[", ".").replace("]", "").split(".")
    place = [step for step in steps if step]
    field = _FIELD.fullmatch(sentence)
    if field is not None:
        place.append(field[2])
        code = _FIELD_CODES[field[1]]
    else:
        code = next((code for words, code in _RULES if words in sentence), "invalid-value")
    return Flaw(join(place), code, sentence[:SENTENCE_CHARACTERS_MAX])
