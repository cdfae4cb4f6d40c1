"""What the service answers is what its OpenAPI document says, whatever is sent: 20,000 cases, judged by Schemathesis.

`./justw contract --cases 100000` takes more of them.

Raw bytes that no schema can describe (bad UTF-8, broken HTTP) are in the tables of tests/integration/service.
"""

import asyncio
import hashlib
import itertools
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.main import Service
from app.settings import DatabasePolicy, RateLimit, RateLimitPolicy, Secret, Settings
from tests.contract.cases import generated, recombined
from tests.integration.service.gate import found
from tests.integration.service.logged import Log
from tests.integration.service.relay import Mode, Relay, relay
from tests.integration.service.running import PROPOSAL, Server, eventually, serving, settings_for, with_policy
from tests.unit.service.electorate import ORIGIN

pytestmark = pytest.mark.integration

EXAMPLES = 25
"""Generated from the schema, for each operation; the rest is put together from these."""
KEY_SHARE = 0.95
"""Of the writes, so many carry the Idempotency-Key that they must."""
FLAP_SECONDS = {Mode.OPEN: 0.1, Mode.CLOSING: 0.05}
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)


class OneLoop:
    """The service on an event loop of its own; an ASGI application that may be called from any other."""

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self._service = service
        self._loop = loop

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        body = await receive()
        sent: list[Any] = []

        async def answer() -> None:
            async def collect(message: Any) -> None:
                sent.append(message)

            async def given() -> Any:
                return body

            await self._service.application(scope, given, collect)

        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answer(), self._loop))
        for message in sent:
            await send(message)


@pytest.fixture(scope="module")
def api(server: Server, editor_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("log")
    log = Log(server, folder)
    found(server, folder)

    @asynccontextmanager
    async def run() -> AsyncIterator[Service]:
        policy = unhurried(settings_for(server.address(), DatabasePolicy(), request_deadline_seconds=10))
        keeps = log.policy(seed=seed("log"), origin=ORIGIN)
        async with serving(replace(policy, log=keeps, service_seed=seed("service")), simulates=True) as client:
            await eventually(lambda: log.newest() >= 1, within_seconds=10)
            yield client.service

    with beside(run, editor_key) as schema:
        yield schema


@pytest.fixture(scope="module")
def flapping(server: Server, editor_key: str) -> Iterator[Any]:
    """The service behind a network that lets the database through now and then."""

    @asynccontextmanager
    async def run() -> AsyncIterator[Service]:
        async with relay(server.postgres.port) as network:
            policy = with_policy(
                wait_seconds=0.02, waiters_max=2, backoff_initial_seconds=0.02, backoff_max_seconds=0.05
            )
            async with (
                serving(unhurried(settings_for(server.address(port=network.port), policy)), simulates=True) as client,
                asyncio.TaskGroup() as tasks,
            ):
                cutting = tasks.create_task(flap(network))
                yield client.service
                cutting.cancel()

    with beside(run, editor_key) as schema:
        yield schema


def unhurried(policy: Settings) -> Settings:
    """Lift the rate limits: what is asked here is what is answered, not how fast one may ask."""
    most = RateLimit(per_minute=1_000_000, burst=1_000_000)
    return replace(policy, rate_limit=RateLimitPolicy(principal=most, address=most))


async def flap(network: Relay) -> None:
    while True:
        for mode in (Mode.OPEN, Mode.CLOSING):
            await network.cut(mode)
            await asyncio.sleep(FLAP_SECONDS[mode])


@contextmanager
def beside(run: Callable[[], AbstractAsyncContextManager[Service]], key: str) -> Iterator[Any]:
    """Run a service on an event loop in a thread, and yield its schema, by which it can be asked."""
    loop = asyncio.new_event_loop()
    ready: list[Service] = []
    stop = asyncio.Event()

    async def until_told() -> None:
        async with run() as service:
            ready.append(service)
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(until_told(),), daemon=True)
    thread.start()
    deadline = time.monotonic() + 15
    while not ready:
        assert time.monotonic() < deadline, "the service did not start"
        thread.join(0.05)
    schema = schemathesis.openapi.from_asgi(
        "/schema/openapi.json",
        OneLoop(ready[0], loop),
        headers={"X-API-Key": key, "Host": "firewall.test"},
    )
    yield schema
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)


def seed(name: str) -> Secret:
    """The seed of the founding's key of that name."""
    return Secret(hashlib.sha256(name.encode()).digest())


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


def without_token(case: Any) -> Any:
    """Take back the token that Schemathesis made up beside our key: two credentials are none."""
    if case.headers:
        case.headers.pop("Authorization", None)
    return case


def operations(api: Any) -> dict[str, Any]:
    return {found.ok().label: found.ok() for found in api.get_all_operations()}


def test_the_document_names_every_route(api: Any) -> None:
    assert sorted(operations(api)) == sorted(OPERATIONS)


def asked(api: Any, key: str, label: str, count: int, *, checks: Sequence[Any] = CHECKS) -> Counter[int]:
    """Ask an operation so many things, and have every answer judged; return how often it answered what."""
    operation = operations(api)[label]
    chance = random.Random(label)  # noqa: S311 - reproducible
    made = generated(operation, min(EXAMPLES, count))
    statuses: Counter[int] = Counter()
    for case in itertools.chain(made, recombined(operation, made, max(0, count - len(made)), chance)):
        headers = {"X-API-Key": key, "Host": "firewall.test"}
        if label.startswith("POST") and chance.random() < KEY_SHARE:
            headers["Idempotency-Key"] = f"{chance.getrandbits(64):x}"
        answer = without_token(case).call(headers=headers)
        case.validate_response(answer, checks=checks, headers=headers)
        statuses[answer.status_code] += 1
    return statuses


@pytest.mark.parametrize("label", OPERATIONS)
def test_answers_are_as_documented(api: Any, editor_key: str, label: str, cases: int) -> None:
    statuses = asked(api, editor_key, label, cases // len(OPERATIONS) + 1)

    assert sum(statuses.values()) > cases // len(OPERATIONS)
    assert 500 not in statuses


@pytest.mark.timeout(300)
def test_answers_are_as_documented_while_the_database_comes_and_goes(
    flapping: Any, editor_key: str, cases: int
) -> None:
    """The connection is cut and let through again several times a second: 503 and 504 are documented, 500 is not."""
    statuses: Counter[int] = Counter()
    for label in OPERATIONS:
        count = cases // (10 * len(OPERATIONS)) + 1
        statuses += asked(
            flapping, editor_key, label, count, checks=[one for one in CHECKS if one is not not_a_server_error]
        )

    assert 500 not in statuses
    assert statuses[503] > sum(statuses.values()) / 20, "the fault was there"
    assert statuses[200] + statuses[404] + statuses[422] > sum(statuses.values()) / 20, "and not all the time"


def test_proposals_as_the_schema_describes_them_are_accepted(api: Any, editor_key: str) -> None:
    operation = operations(api)["POST /api/v1/proposals"]
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
        headers = {"X-API-Key": editor_key, "Host": "firewall.test", "Idempotency-Key": secrets.token_hex(8)}
        if isinstance(case.body, dict):
            case.body |= {name: PROPOSAL[name] for name in ("target", "base_version", "base_digest")}
        statuses.append(without_token(case).call(headers=headers).status_code)

    collect()

    # Beyond what a schema can say: NUL, big numbers inside values, keys that are not NFC (400); 1.0 for 1, a kind
    # that this target does not take, an expiry in the past (422).
    # What was proposed already (409). A dry run stores nothing (200).
    assert set(statuses) <= {200, 201, 400, 409, 422}
    assert statuses.count(200) + statuses.count(201) + statuses.count(409) >= EXAMPLES // 5


@pytest.mark.parametrize("label", [label for label in OPERATIONS if "/log/" in label])
def test_the_examples_of_the_log_work_on_a_log_of_one_entry(api: Any, editor_key: str, label: str) -> None:
    operation = operations(api)[label]
    definition = operation.definition.raw
    given_in: dict[str, dict[str, Any]] = {"path": {}, "query": {}}
    for parameter in definition.get("parameters", []):
        examples = list(parameter.get("examples", {}).values())
        assert examples or not parameter.get("required"), parameter["name"]
        if examples:
            given_in[parameter["in"]][parameter["name"]] = examples[0]["value"]

    case = operation.Case(path_parameters=given_in["path"], query=given_in["query"])
    answer = case.call(headers={"X-API-Key": editor_key, "Host": "firewall.test"})

    assert answer.status_code == 200
