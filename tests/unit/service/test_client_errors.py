"""FM12 in the service: what a refusal says, what the log keeps of it, and that no client makes a metric grow."""

import asyncio
import copy
import io
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app import log, metrics
from app.core.documents import strict_json
from app.core.governed import proposal
from app.errors import InvalidProposal, MalformedBody
from app.main import Service, create_service
from app.settings import DatabaseAddress, Secret
from tests.contract.cases import damaged
from tests.integration.service.running import PROPOSAL, settings_for

PATCH = PROPOSAL["patch"][0]
PATHS = 100_000

FLAWS: list[tuple[str, dict[str, Any], str, str]] = [
    ("an unknown field", {"colour": "red"}, "/colour", "unknown-field"),
    ("an unknown field with a slash", {"a/b": 1}, "/a~1b", "unknown-field"),
    ("a text for a number", {"base_version": "1"}, "/base_version", "wrong-type"),
    ("a fraction for a whole number", {"base_version": 1.5}, "/base_version", "wrong-type"),
    ("a number that is too small", {"base_version": 0}, "/base_version", "out-of-range"),
    ("an empty text", {"rationale": ""}, "/rationale", "wrong-length"),
    ("a long text", {"rationale": "x" * 8_193}, "/rationale", "wrong-length"),
    ("no operation", {"patch": []}, "/patch", "wrong-length"),
    ("an unknown operation", {"patch": [{**PATCH, "op": "frob"}]}, "/patch/0/op", "not-a-choice"),
    ("an operation that says nothing", {"patch": [PATCH, {"path": "/a"}]}, "/patch/1/op", "missing-field"),
    ("an operation with too much", {"patch": [{**PATCH, "from_": "/b"}]}, "/patch/0/from_", "unknown-field"),
    ("an operation that is none", {"patch": ["add"]}, "/patch/0", "wrong-type"),
    ("a digest that is none", {"base_digest": "sha256:12"}, "/base_digest", "wrong-pattern"),
    ("a kind that is none", {"kind": "wish"}, "/kind", "not-a-choice"),
    ("an id that is none", {"supersedes": "12"}, "/supersedes", "invalid-value"),
    ("no such instant", {"expires_at": "2026-02-30T00:00:00.000000Z"}, "/expires_at", "invalid-value"),
    ("evidence that is none", {"evidence": [PROPOSAL["base_digest"], 7]}, "/evidence/1", "wrong-type"),
]


def flaw_of(content: object) -> tuple[str, str, str]:
    body = json.dumps(content).encode()
    with pytest.raises(InvalidProposal) as raised:
        proposal.accept(body, strict_json.decode(body))
    (flaw,) = raised.value.flaws
    return flaw.pointer, flaw.code, flaw.message


@pytest.mark.parametrize(("_name", "change", "pointer", "code"), FLAWS, ids=[one[0] for one in FLAWS])
def test_a_refused_body_names_the_field_and_the_rule(
    _name: str, change: dict[str, Any], pointer: str, code: str
) -> None:
    where, rule, message = flaw_of({**PROPOSAL, **change})

    assert (where, rule) == (pointer, code)
    assert 10 < len(message) <= 200


@pytest.mark.parametrize("field", sorted(PROPOSAL))
def test_a_missing_field_is_named(field: str) -> None:
    kept = {name: value for name, value in PROPOSAL.items() if name != field}

    assert flaw_of(kept)[:2] == (f"/{field}", "missing-field")


def test_a_body_that_is_no_object_is_wrong_as_a_whole() -> None:
    assert flaw_of([PROPOSAL])[:2] == ("", "wrong-type")


def test_whatever_is_wrong_with_a_body_is_a_flaw_with_a_place_and_a_rule(documents: int, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - reproducible
    refused = 0
    for number in range(documents):
        body = json.dumps(damaged(copy.deepcopy(PROPOSAL), chance)).encode()
        if number % 4 == 0:
            place = chance.randrange(len(body))
            body = body[:place] + chance.randbytes(chance.randrange(4)) + body[place + chance.randrange(3) :]
        try:
            proposal.accept(body, strict_json.decode(body))
        except (InvalidProposal, MalformedBody) as error:
            refused += 1
            (flaw,) = error.flaws
            assert flaw.code, body
            assert flaw.message, body
            assert flaw.pointer == "" or flaw.pointer.startswith("/"), body
    assert documents * 0.5 < refused < documents, "the damage is neither too great nor too small"


@pytest.fixture
def service() -> Iterator[Service]:
    """The service with nothing opened: what is refused before a handler needs no database."""
    address = DatabaseAddress(host="127.0.0.1", port=1, name="none", user="none", password=Secret(b"none"))
    log.configure("error", output=io.BytesIO())
    yield create_service(settings_for(address), clock=time.monotonic)
    log.configure("warning")


async def ask(service: Service, path: str, *, method: str = "GET", headers: dict[str, str] | None = None) -> int:
    statuses = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    given = {"host": "firewall.test", **(headers or {})}
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    await service.application(scope, receive, send)
    return int(statuses[0])


def series() -> int:
    return sum(len(family.samples) for family in REGISTRY.collect())


def random_path(chance: random.Random) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-_.~%{}:"
    start = chance.choice(("/", "/api/", "/api/v1/", "/api/v2/", "/api/v1/proposals/", "/schema/", "/.git/"))
    return start + "".join(chance.choices(letters, k=chance.randrange(1, 40))) + f"-{chance.getrandbits(48):x}"


@pytest.mark.timeout(300)
def test_a_hundred_thousand_random_paths_leave_the_number_of_metric_series_as_it_is(service: Service) -> None:
    chance = random.Random(12)  # noqa: S311 - reproducible

    async def scan(paths: int) -> set[int]:
        methods = ("GET", "POST", "PROPFIND", "DELETE", "x" * 20)
        return {await ask(service, random_path(chance), method=methods[number % 5]) for number in range(paths)}

    first = asyncio.run(scan(500))
    before = series()
    statuses = asyncio.run(scan(PATHS))

    assert series() == before
    assert statuses | first <= {401, 404, 405}
    bucket = {"bucket": metrics.client_bucket("127.0.0.1")}
    assert (REGISTRY.get_sample_value("firewall_client_refusals_total", bucket) or 0) >= PATHS


def test_clients_are_spread_over_all_buckets_and_every_process_spreads_them_alike() -> None:
    buckets = {metrics.client_bucket(f"client-{number}") for number in range(500)}

    assert len(buckets) == metrics.CLIENT_BUCKETS
    assert [metrics.client_bucket(name) for name in ("client-1", "client-2", "10.0.0.1")] == ["06", "28", "19"]
