"""The API that runs serves the clients of the one last released; and what would break them is found, each kind.

`docs/openapi.json` is that last one. `./justw release-api` writes it anew, when a release says so.
"""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compose.settings import REPOSITORY
from tests.contract.description import RELEASED, current

SCRIPT = REPOSITORY / "runbooks" / "api_changes.py"
Schema = dict[str, Any]
RELEASED_SCHEMA: Schema = json.loads(RELEASED.read_bytes())


def compared(running: Schema | str, folder: Path) -> tuple[int, str]:
    path = folder / "running.json"
    path.write_text(running if isinstance(running, str) else json.dumps(running))
    done = subprocess.run(
        [sys.executable, SCRIPT, RELEASED, path], capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stdout


def test_what_runs_breaks_no_client_of_what_was_released(tmp_path: Path) -> None:
    code, said = compared(current(), tmp_path)

    assert code == 0, f"{said}\nMeant so? Then it is a new version of the API: ./justw release-api, and say so."


def content(schema: Schema) -> Schema:
    found: Schema = schema["components"]["schemas"]["ProposalContent"]
    return found


def operation(schema: Schema, path: str = "/api/v1/proposals", method: str = "post") -> Schema:
    found: Schema = schema["paths"][path][method]
    return found


def gone(schema: Schema) -> None:
    del schema["paths"]["/api/v1/proposals"]["get"]


def new_parameter(schema: Schema) -> None:
    operation(schema).setdefault("parameters", []).append({"name": "X-Ticket", "in": "header", "required": True})


def parameter_gone(schema: Schema) -> None:
    parameters = operation(schema, method="get")["parameters"]
    parameters[:] = [one for one in parameters if one["name"] != "tier"]


def required(schema: Schema) -> None:
    content(schema)["properties"]["ticket"] = {"type": "string"}
    content(schema)["required"].append("ticket")


def field_gone(schema: Schema) -> None:
    del content(schema)["properties"]["evidence"]


def answer_gone(schema: Schema) -> None:
    del operation(schema)["responses"]["201"]


def field_of_an_answer_gone(schema: Schema) -> None:
    del schema["components"]["schemas"]["Proposal"]["properties"]["state"]


BREAKING: list[tuple[Callable[[Schema], object], str]] = [
    (gone, "GET /api/v1/proposals: is gone"),
    (new_parameter, "the parameter X-Ticket (header) is required now"),
    (parameter_gone, "the parameter tier (query) is gone"),
    (required, "the field ticket is required now"),
    (field_gone, "the field evidence is not taken any more"),
    (lambda schema: content(schema)["properties"]["rationale"].update(minLength=9), "minLength is 9 now"),
    (lambda schema: content(schema)["properties"]["rationale"].update(maxLength=9), "maxLength is 9 now"),
    (lambda schema: content(schema)["properties"]["base_digest"].update(pattern="^x$"), "another pattern"),
    (lambda schema: content(schema)["properties"]["rationale"].update(type="integer"), "takes integer"),
    (lambda schema: content(schema)["properties"]["kind"].update(enum=["mutation"]), "'governance' is no choice"),
    (answer_gone, "does not answer 201 any more"),
    (field_of_an_answer_gone, "the field state is gone"),
]


@pytest.mark.parametrize(("change", "said"), BREAKING, ids=[said for _, said in BREAKING])
def test_what_breaks_a_client_is_found_and_said(change: Callable[[Schema], object], said: str, tmp_path: Path) -> None:
    schema = copy.deepcopy(RELEASED_SCHEMA)
    change(schema)

    code, output = compared(schema, tmp_path)

    assert code == 1, output
    assert said in output
    assert output.splitlines()[-1] == "api: breaking"


def more(schema: Schema) -> None:
    content(schema)["properties"]["ticket"] = {"type": "string"}
    content(schema)["properties"]["rationale"]["maxLength"] = 10**6
    schema["paths"]["/api/v2/proposals"] = schema["paths"]["/api/v1/proposals"]
    operation(schema)["responses"]["429"] = operation(schema)["responses"]["422"]
    schema["components"]["schemas"]["Proposal"]["properties"]["ticket"] = {"type": "string"}


def test_what_is_added_breaks_nobody(tmp_path: Path) -> None:
    schema = copy.deepcopy(RELEASED_SCHEMA)
    more(schema)

    assert compared(schema, tmp_path) == (0, f"{tmp_path}/running.json: 0 breaking changes\napi: compatible\n")


def test_what_cannot_be_read_is_not_compatible(tmp_path: Path) -> None:
    code, output = compared("<html>", tmp_path)

    assert (code, output.splitlines()[-1]) == (2, "api: unreadable")
