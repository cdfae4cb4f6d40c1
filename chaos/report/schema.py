"""The schema of ``report.json``: closed objects, every field always there; kept in the repository beside this file.

``python -m chaos.report.schema`` writes it anew after a change of ``chaos.result``; a test fails until then.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import msgspec

from chaos.result import SCHEMA_VERSION, Report

PATH = Path(__file__).resolve().parent / "report.schema.json"


class InvalidReportError(ValueError):
    """A report that does not meet its schema."""


def generate() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of ``chaos.result.Report``."""
    (reference,), definitions = msgspec.json.schema_components([Report], ref_template="#/$defs/{name}")
    for definition in definitions.values():
        if definition.get("type") == "object":
            definition["required"] = list(definition["properties"])
            for field in definition["properties"].values():
                field.pop("default", None)  # every field is always written
    definitions["Report"]["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    definitions["Report"]["properties"]["exit_code"] |= {"minimum": 0, "maximum": 255}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Chaos report {SCHEMA_VERSION}",
        **reference,
        "$defs": dict(sorted(definitions.items())),
    }


def text() -> str:
    """Return the schema as it stands in the repository."""
    return json.dumps(generate(), indent=2) + "\n"


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(PATH.read_text(encoding="utf-8")))


def validate(report: bytes) -> None:
    """Hold an encoded report against the schema.

    Raises:
        InvalidReportError: names the place of the worst error.
    """
    error = jsonschema.exceptions.best_match(_validator().iter_errors(json.loads(report)))
    if error is not None:
        raise InvalidReportError(f"report.json, {error.json_path}: {error.message}")


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
