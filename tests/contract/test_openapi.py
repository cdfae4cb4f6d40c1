"""What the running stack answers is what its OpenAPI document says, whatever is sent: 20,000 cases, some in a fault.

`./justw contract --cases 100000` takes more of them. They are put together from few that Schemathesis made
(`cases.py`), which makes so many possible; Schemathesis itself, with all it has, runs in `test_schemathesis.py`.

Raw bytes that no schema can describe (bad UTF-8, broken HTTP) are in the tables of tests/integration.
"""

import itertools
import random
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.contract.cases import generated, recombined
from tests.contract.conftest import Running

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

EXAMPLES = 25
"""Generated from the schema, for each operation; the rest is put together from these."""
KEY_SHARE = 0.95
"""Of the writes, so many carry the Idempotency-Key that they must."""
IN_A_FAULT = (
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
CALM = (not_a_server_error, *IN_A_FAULT)


@dataclass(frozen=True)
class Client:
    """Asks the stack through its front, by its description."""

    running: Running
    http: requests.Session
    operations: dict[str, Any]

    def send(self, case: Any, **headers: str) -> Any:
        """Send a case with our key, without the token that Schemathesis makes up: two credentials are none."""
        if case.headers:
            case.headers.pop("Authorization", None)
        given = {"X-API-Key": self.running.key, **headers}
        return case.call(base_url=self.running.front, session=self.http, headers=given, timeout=10)


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[Client]:
    api = schemathesis.openapi.from_url(running.description)
    found = [one.ok() for one in api.get_all_operations() if isinstance(one, Ok)]
    operations = {operation.label: operation for operation in found}
    with requests.Session() as http:
        http.trust_env = False
        yield Client(running, http, operations)


OPERATIONS = (
    "POST /api/v1/proposals",
    "GET /api/v1/proposals",
    "GET /api/v1/proposals/{proposal_id}",
    "GET /api/v1/log/checkpoint",
    "GET /api/v1/log/entries",
    "GET /api/v1/log/tile/{level}/{place}",
    "GET /api/v1/log/tile/entries/{place}",
    "GET /api/v1/log/proofs/inclusion",
    "GET /api/v1/log/proofs/consistency",
    "GET /api/v1/proposals/{proposal_id}/events",
    "POST /api/v1/proposals/{proposal_id}/withdrawal",
    "GET /api/v1/proposals/{proposal_id}/bundle",
    "POST /api/v1/verifications",
    "POST /api/v1/targets",
    "GET /api/v1/targets",
    "GET /api/v1/targets/{target}",
    "GET /api/v1/targets/{target}/current",
    "GET /api/v1/targets/{target}/snapshots",
    "GET /api/v1/targets/{target}/snapshots/{version}",
    "PUT /api/v1/targets/{target}/freeze",
    "GET /api/v1/targets/{target}/attestation",
    "GET /api/v1/proposals/{proposal_id}/simulation",
    "GET /api/v1/proposals/{proposal_id}/ballot",
    "GET /api/v1/proposals/{proposal_id}/votes",
    "POST /api/v1/proposals/{proposal_id}/votes",
    "POST /api/v1/proposals/{proposal_id}/votes/{vote_id}/revocation",
    "GET /api/v1/policies",
    "GET /api/v1/policies/{version}",
    "POST /api/v1/policies/check",
    "GET /api/v1/root",
    "GET /api/v1/validators",
    "POST /api/v1/validators/{validator}/key-challenges",
    "POST /api/v1/validators/{validator}/keys",
    "POST /api/v1/validators/{validator}/keys/{keyid}/revocation",
    "GET /health",
    "GET /health/live",
    "GET /health/ready",
    "GET /health/startup",
    "DELETE /api/v1/targets/{target}/freeze",
    "GET /api/v1/proposals/{proposal_id}/application",
    "POST /api/v1/proposals/{proposal_id}/application",
    "POST /api/v1/targets/{target}/observations",
    "POST /api/v1/targets/{target}/rollbacks",
    "POST /api/v1/api-keys",
    "GET /api/v1/api-keys",
    "DELETE /api/v1/api-keys/{key_id}",
)


def asked(client: Client, label: str, count: int, *, checks: Sequence[Any] = CALM) -> Counter[int]:
    """Ask an operation so many things, and have every answer judged; return how often it answered what."""
    operation = client.operations[label]
    chance = random.Random(label)  # noqa: S311 - reproducible
    made = generated(operation, min(EXAMPLES, count))
    statuses: Counter[int] = Counter()
    for case in itertools.chain(made, recombined(operation, made, max(0, count - len(made)), chance)):
        is_with_key = label.startswith("POST") and chance.random() < KEY_SHARE
        answer = client.send(case, **({"Idempotency-Key": f"{chance.getrandbits(64):x}"} if is_with_key else {}))
        case.validate_response(answer, checks=checks)
        statuses[answer.status_code] += 1
    return statuses


def example_of(operation: Any) -> Any:
    return operation.definition.raw["requestBody"]["content"]["application/json"]["example"]


def test_the_document_names_every_route(client: Client) -> None:
    assert sorted(client.operations) == sorted(OPERATIONS)


@pytest.mark.parametrize("label", OPERATIONS)
def test_answers_are_as_documented(client: Client, label: str, cases: int) -> None:
    statuses = asked(client, label, cases // len(OPERATIONS) + 1)

    assert sum(statuses.values()) > cases // len(OPERATIONS)


def test_answers_are_as_documented_while_the_database_comes_and_goes(client: Client, cases: int) -> None:
    """The connection is cut and let through again, again and again: 503 and 504 are documented, 500 is a mistake."""
    statuses: Counter[int] = Counter()
    with client.running.database_comes_and_goes():
        for label in OPERATIONS:
            statuses += asked(client, label, cases // (10 * len(OPERATIONS)) + 1, checks=IN_A_FAULT)

    assert not {status for status in statuses if status >= 500} - {503, 504}
    assert statuses[503] > sum(statuses.values()) / 20, f"the fault was there: {statuses}"
    assert statuses[200] + statuses[404] + statuses[422] > sum(statuses.values()) / 20, "and not all the time"


@pytest.mark.parametrize("megabytes", [2, 4, 12])
def test_a_body_that_is_too_large_is_told_so_every_time(client: Client, megabytes: int) -> None:
    """Also while it is still being sent: a connection closed on unread bytes would take the answer with it."""
    body = b" " * (megabytes * 1_000_000)
    headers = {"X-API-Key": client.running.key, "Content-Type": "application/json", "Idempotency-Key": "large"}

    statuses = [
        client.http.post(f"{client.running.front}/api/v1/proposals", data=body, headers=headers, timeout=10).status_code
        for _ in range(20)
    ]

    assert statuses == [413] * 20


def test_an_answer_that_is_not_documented_is_refused(client: Client) -> None:
    """Also of a case that was put together from others."""
    label = "GET /api/v1/proposals"
    operation = client.operations[label]
    (case,) = recombined(operation, generated(operation, 1), 1, random.Random(label))  # noqa: S311 - reproducible
    answer = client.send(case)
    answer.status_code = 418

    with pytest.raises(BaseExceptionGroup) as raised:
        case.validate_response(answer, checks=CALM)

    assert "418" in str(raised.value.exceptions[0])


def test_proposals_as_the_schema_describes_them_are_accepted(client: Client) -> None:
    operation = client.operations["POST /api/v1/proposals"]
    example = example_of(operation)
    made = client.operations["POST /api/v1/targets"]
    created = client.send(
        made.Case(body=example_of(made), media_type="application/json"), **{"X-API-Key": client.running.chief_key}
    )
    assert created.status_code in {201, 409}
    statuses: list[int] = []

    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    def collect(case: Any) -> None:
        if isinstance(case.body, dict):
            case.body |= {name: example[name] for name in ("target", "base_version", "base_digest")}
        statuses.append(client.send(case, **{"Idempotency-Key": secrets.token_hex(8)}).status_code)

    collect()

    # Beyond what a schema can say: NUL, big numbers inside values, keys that are not NFC (400); 1.0 for 1, a kind
    # that this target does not take, an expiry in the past (422).
    # What was proposed already (409). A dry run stores nothing (200).
    assert set(statuses) <= {200, 201, 400, 409, 422}
    assert statuses.count(200) + statuses.count(201) + statuses.count(409) >= EXAMPLES // 5


@pytest.mark.parametrize("label", [label for label in OPERATIONS if "/log/" in label])
def test_the_examples_of_the_log_work_on_a_young_log(client: Client, label: str) -> None:
    operation = client.operations[label]
    definition = operation.definition.raw
    given_in: dict[str, dict[str, Any]] = {"path": {}, "query": {}}
    for parameter in definition.get("parameters", []):
        examples = list(parameter.get("examples", {}).values())
        assert examples or not parameter.get("required"), parameter["name"]
        if examples:
            given_in[parameter["in"]][parameter["name"]] = examples[0]["value"]

    case = operation.Case(path_parameters=given_in["path"], query=given_in["query"])
    answer = client.send(case)

    assert answer.status_code == 200
