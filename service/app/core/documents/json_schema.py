"""JSON Schema 2020-12 for governed documents: only in the sandbox.

A schema is a stranger's program: its patterns are Python's `re`, which may take for ever, its references may go round
in circles. The worker's limits end that. Nothing outside the schema is ever looked up. Messages say which keyword
failed where, never what stands in the document.
"""

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

import referencing.exceptions
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from referencing import Registry

from app.core.documents import pointer
from app.errors import Flaw

FLAWS_MAX: Final = 20
EXAMINED_MAX: Final = 1_000
"""Errors that are looked at before the first of them, in order of places, are told."""


class SchemaLimit(Exception):
    """Schema and document together go deeper than this process can."""


def schema_flaws(schema: Any) -> list[Flaw]:
    """Return what is wrong with a schema; pointers into the schema."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return [_flaw(error, "invalid-schema")]
    except RecursionError:
        raise SchemaLimit from None
    return []


def document_flaws(schema: Any, document: Any) -> list[Flaw]:
    """Return what a document lacks; pointers into the document, sorted.

    Raises:
        SchemaLimit: it cannot be found out.
    """
    validator = Draft202012Validator(schema, registry=Registry())
    try:
        errors = list(islice(validator.iter_errors(document), EXAMINED_MAX))
    except RecursionError:
        raise SchemaLimit from None
    except referencing.exceptions.Unresolvable:
        return [Flaw("", "invalid-schema", "a reference of the schema leads nowhere")]
    except (re.error, ValueError, ArithmeticError):
        return [Flaw("", "invalid-schema", "the schema cannot be applied")]
    return list(islice(_sorted(_flaw(error, "schema-failed") for error in errors), FLAWS_MAX))


def _sorted(flaws: Iterable[Flaw]) -> list[Flaw]:
    return sorted(flaws, key=lambda flaw: (flaw.pointer, flaw.message))


def _flaw(error: ValidationError | SchemaError, code: str) -> Flaw:
    rule = pointer.join(error.absolute_schema_path)[:200]
    return Flaw(pointer.join(error.absolute_path), code, f"does not satisfy {rule or 'the schema'}")
