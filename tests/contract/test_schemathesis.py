"""The running stack against its own description, asked by Schemathesis with all its phases and checks.

What is left out, and why, says `schemathesis.toml`. Calm, and while the database comes and goes; there 503 and 504 are
right answers and a 500 is none.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.conftest import Running

pytestmark = [pytest.mark.integration, pytest.mark.timeout(420)]

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 10
"""Of each operation in the fuzzing phase; the coverage phase makes some fifty of each by itself."""
CASES_MIN = 2_500
RUN_SECONDS = 300
ALLOWED_IN_A_FAULT = {503, 504}


@dataclass(frozen=True)
class Asked:
    """What came of a run."""

    code: int
    said: str
    report: dict[str, Any]
    statuses: Counter[int]


def asked(running: Running, folder: Path, *options: str, description: str | Path | None = None) -> Asked:
    """Run Schemathesis as its users do."""
    report, exchanges = folder / "report.json", folder / "exchanges.har"
    reports = ("--report-json-path", str(report), "--report-har-path", str(exchanges))
    command = (sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION), "run")
    done = subprocess.run(
        [*command, str(description or running.description), "--no-color", *reports, *options],
        env={
            **os.environ,  # noqa: TID251 - passed on as it is
            "AMGF_FRONT": running.front,
            "AMGF_KEY": running.key,
            "AMGF_CHIEF_KEY": running.chief_key,
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert report.is_file(), done.stdout + done.stderr
    entries = json.loads(exchanges.read_bytes())["log"]["entries"]
    statuses = Counter(entry["response"]["status"] for entry in entries)
    return Asked(done.returncode, done.stdout, json.loads(report.read_bytes()), statuses)


def failures(run: Asked) -> str:
    """Return what a run found, without what it says at length beside it."""
    _, _, found = run.said.partition("= FAILURES =")
    return found or run.said


def test_nothing_is_found_on_a_calm_stack(running: Running, tmp_path: Path) -> None:
    run = asked(running, tmp_path, "--max-examples", str(EXAMPLES))

    assert run.code == 0, failures(run)
    assert run.report["operations"] == {**run.report["operations"], "tested": run.report["operations"]["total"]}
    assert {name: phase["status"] for name, phase in run.report["phases"].items()} == dict.fromkeys(
        ("examples", "coverage", "fuzzing", "stateful"), "success"
    )
    assert run.report["test_cases"]["generated"] >= CASES_MIN
    assert not any(status >= httpx.codes.INTERNAL_SERVER_ERROR for status in run.statuses)


def test_nothing_but_the_fault_is_found_while_the_database_comes_and_goes(running: Running, tmp_path: Path) -> None:
    with running.database_comes_and_goes():
        run = asked(running, tmp_path, "--max-examples", "3", "--exclude-checks", "not_a_server_error")

    assert run.code == 0, failures(run)
    of_the_fault = sum(count for status, count in run.statuses.items() if status in ALLOWED_IN_A_FAULT)
    answered = sum(count for status, count in run.statuses.items() if status < httpx.codes.BAD_REQUEST)
    wrong = {status for status in run.statuses if status >= httpx.codes.INTERNAL_SERVER_ERROR} - ALLOWED_IN_A_FAULT
    assert not wrong
    assert of_the_fault > run.statuses.total() / 20, f"the fault was there: {run.statuses}"
    assert answered > run.statuses.total() / 20, f"and not all the time: {run.statuses}"


def without_a_status(document: dict[str, Any]) -> None:
    del document["paths"]["/api/v1/proposals"]["get"]["responses"]["400"]


def with_another_type(document: dict[str, Any]) -> None:
    document["components"]["schemas"]["Page"]["properties"]["next_cursor"] = {"type": "integer"}


def with_a_shorter_name(document: dict[str, Any]) -> None:
    parameters = document["paths"]["/api/v1/proposals"]["get"]["parameters"]
    (proposer,) = [one for one in parameters if one["name"] == "proposer"]
    proposer["schema"]["maxLength"] = 3


def for_everybody(document: dict[str, Any]) -> None:
    document["paths"]["/health"]["get"]["security"] = [{"api_key": []}]


@pytest.mark.parametrize(
    ("falsified", "path", "found"),
    [
        pytest.param(without_a_status, "/api/v1/proposals", "UndefinedStatusCode", id="a status"),
        pytest.param(with_another_type, "/api/v1/proposals", "JsonSchemaError", id="a type"),
        pytest.param(with_a_shorter_name, "/api/v1/proposals", "AcceptedNegativeData", id="a bound"),
        pytest.param(for_everybody, "/health", "IgnoredAuth", id="who may ask"),
    ],
)
def test_a_description_that_is_not_true_is_found_out(
    running: Running, tmp_path: Path, falsified: Callable[[dict[str, Any]], None], path: str, found: str
) -> None:
    document = httpx.get(running.description).json()
    falsified(document)
    description = tmp_path / "openapi.json"
    description.write_text(json.dumps(document))

    run = asked(running, tmp_path, "--include-name", f"GET {path}", "--max-examples", "20", description=description)

    assert run.code == 1
    assert [one["type"] for one in run.report["failures"]] == [found]
