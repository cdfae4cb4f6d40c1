import asyncio
import itertools
import random
import statistics
import time
from pathlib import Path

import pytest

from chaos.arrivals import schedule
from chaos.evidence import Evidence, EvidenceWriter, Origin
from chaos.exchange import Limits
from chaos.history import HISTORY, Kind, Operation, Outcome, dropped, operations, sha256
from chaos.scenario import Load, Stream
from chaos.streams import KINDS, Means, Occasion
from chaos.streams.base import instants
from chaos.streams.credentials import KEY_CAUSES
from chaos.traffic import Traffic, UnknownStreamError
from tests.eventually import eventually
from tests.unit.chaos.little_servers import Answer, ProposalsInMemory, Question, refused_address, serving

SEED = 266  # brings a key with another body within two seconds
BRISK = Load(proposals_per_second=60, reads_per_second=40, retry_share=0.3)


@pytest.fixture
def writer(tmp_path: Path) -> EvidenceWriter:
    return EvidenceWriter(tmp_path, Origin.now())


def lines(writer: EvidenceWriter) -> list[str]:
    path = writer.folder / HISTORY
    return path.read_text().splitlines() if path.exists() else []


def recorded(writer: EvidenceWriter) -> tuple[Operation, ...]:
    return operations(Evidence(writer.folder).rows(HISTORY))


def test_the_same_seed_gives_the_same_arrivals_and_another_seed_others() -> None:
    first = list(itertools.islice(schedule(BRISK, SEED), 500))

    assert list(itertools.islice(schedule(BRISK, SEED), 500)) == first
    assert [one.body for one in first] == [one.body for one in itertools.islice(schedule(BRISK, SEED), 500)]
    assert list(itertools.islice(schedule(BRISK, SEED + 1), 500)) != first


def test_arrivals_are_ordered_and_come_at_the_rate_asked_for_with_exponential_gaps() -> None:
    load = Load(proposals_per_second=20, reads_per_second=0, retry_share=0)
    offsets = [one.offset for one in itertools.islice(schedule(load, SEED), 6000) if one.kind is Kind.PROPOSE]
    gaps = [later - earlier for earlier, later in itertools.pairwise(offsets)]

    assert offsets == sorted(offsets)
    assert statistics.mean(gaps) == pytest.approx(1 / 20, rel=0.06)
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.06)


def test_a_shared_key_is_used_by_another_principal_for_a_proposal_of_its_own() -> None:
    load = Load(proposals_per_second=20, reads_per_second=0, retry_share=0, reuse_share=0, shared_key_share=1)
    arrivals = list(itertools.islice(schedule(load, SEED), 400))
    first = {one.serial: one for one in arrivals if one.of is None}
    sharing = [one for one in arrivals if one.of is not None]

    assert len(sharing) > 100
    for one in sharing:
        assert one.of is not None
        owner = first[one.of]
        assert (one.kind, one.key, one.client) == (Kind.PROPOSE, owner.key, owner.client + 1)
        assert one.body != owner.body


def test_every_proposal_has_a_canary_of_its_own_and_repeats_carry_the_key_of_what_they_repeat() -> None:
    arrivals = list(itertools.islice(schedule(BRISK, SEED), 3000))
    first = {one.serial: one for one in arrivals if one.kind is Kind.PROPOSE}

    assert len({one.body for one in first.values()}) == len(first)
    repeats = [one for one in arrivals if one.of is not None]
    assert {one.kind for one in repeats} == {Kind.RETRY, Kind.REUSE}
    for one in repeats:
        assert one.of is not None
        assert one.key == first[one.of].key
        assert (one.body == first[one.of].body) is (one.kind is Kind.RETRY)


@pytest.mark.anyio
async def test_all_kinds_are_sent_answered_and_recorded_with_what_the_checks_need(writer: EvidenceWriter) -> None:
    service = ProposalsInMemory()
    async with (
        serving(service) as address,
        Traffic(address, ["key-a", "key-b"], BRISK, writer, seed=SEED) as traffic,
    ):
        await eventually(lambda: traffic.operations > 200 and service.conflicts > 0, seconds=20)

    history = recorded(writer)
    assert {one.kind for one in history} == {Kind.PROPOSE, Kind.RETRY, Kind.REUSE, Kind.LIST, Kind.GET}
    assert all(one.completion is not None for one in history)
    proposals = [one for one in history if one.kind is Kind.PROPOSE]
    assert {(one.outcome, one.answer("replica"), one.answer("error")) for one in proposals} == {
        (Outcome.OK, "replica-1", None)
    }
    assert {one.proposal for one in proposals} <= set(service.stored)
    assert {one.body_sha256 for one in proposals} <= {sha256(one.body) for one in service.questions}
    assert {one.status for one in history if one.kind is Kind.REUSE} <= {422}
    assert all(one.outcome is Outcome.OK for one in history if one.kind in {Kind.GET, Kind.RETRY})
    assert any("after" in one.invocation.data for one in history if one.kind is Kind.LIST)
    assert {one.principal for one in history} == {"client-1", "client-2"}
    assert "key-a" not in (writer.folder / HISTORY).read_text()


@pytest.mark.anyio
async def test_a_stalled_service_does_not_slow_the_demand_and_latency_counts_from_the_intended_start(
    writer: EvidenceWriter,
) -> None:
    service = ProposalsInMemory()
    gate = asyncio.Event()

    async def stalled(question: Question) -> Answer:
        await gate.wait()
        return await service(question)

    load = Load(proposals_per_second=60, reads_per_second=0, retry_share=0)
    async with serving(stalled) as address, Traffic(address, ["key"], load, writer, seed=SEED) as traffic:
        await eventually(lambda: traffic.snapshot().in_flight >= 30)
        gate.set()
        await eventually(lambda: traffic.snapshot().in_flight <= 1)

    waits = [one.seconds or 0.0 for one in recorded(writer)]
    assert max(waits) > 0.3
    assert sum(wait > 0.1 for wait in waits) > 15


@pytest.mark.anyio
async def test_a_request_past_its_deadline_is_open_when_it_writes_and_failed_when_it_reads(
    writer: EvidenceWriter,
) -> None:
    async def silent(_: Question) -> Answer:
        await asyncio.Event().wait()
        return Answer()

    limits = Limits(deadline_seconds=0.2)
    async with serving(silent) as address, Traffic(address, ["key"], BRISK, writer, seed=SEED, limits=limits) as load:
        await eventually(lambda: load.operations > 30)
        await load.drain()

    for one in recorded(writer):
        assert one.answer("error") == "timeout"
        assert one.outcome is (Outcome.INFO if one.kind.writes else Outcome.FAIL)


@pytest.mark.anyio
async def test_a_refused_connection_promises_no_effect(writer: EvidenceWriter) -> None:
    async with Traffic(refused_address(), ["key"], BRISK, writer, seed=SEED) as traffic:
        await eventually(lambda: traffic.operations > 20)
        await traffic.drain()

    assert {(one.outcome, one.answer("error")) for one in recorded(writer)} == {(Outcome.FAIL, "refused")}


@pytest.mark.anyio
async def test_arrivals_that_find_the_pool_full_are_recorded_as_dropped(writer: EvidenceWriter) -> None:
    async def silent(_: Question) -> Answer:
        await asyncio.Event().wait()
        return Answer()

    limits = Limits(deadline_seconds=0.5, in_flight_max=3)
    async with serving(silent) as address, Traffic(address, ["key"], BRISK, writer, seed=SEED, limits=limits) as load:
        await eventually(lambda: load.snapshot().dropped > 5)

    rows = dropped(Evidence(writer.folder).rows(HISTORY))
    assert len(rows) > 5
    assert all("op" not in row.data and "intended" in row.data for row in rows)


@pytest.mark.anyio
async def test_leaving_with_an_error_ends_at_once_and_leaves_what_was_in_flight_open(writer: EvidenceWriter) -> None:
    arrived: set[str] = set()

    async def silent(question: Question) -> Answer:
        arrived.add(question.headers.get("idempotency-key", ""))
        await asyncio.Event().wait()
        return Answer()

    async with serving(silent) as address:
        started = time.monotonic()
        with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError)):
            async with Traffic(address, ["key"], BRISK, writer, seed=SEED) as traffic:
                await eventually(lambda: traffic.operations > 20 and bool(arrived - {""}))
                raise RuntimeError
        assert time.monotonic() - started < 3

    history = recorded(writer)
    assert all(one.completion is not None for one in history)
    writes = [one for one in history if one.kind.writes]
    assert {one.outcome for one in writes if one.key in arrived} == {Outcome.INFO}
    assert {one.outcome for one in writes} <= {Outcome.INFO, Outcome.FAIL}  # failed: never sent, still connecting
    assert {one.answer("error") for one in history} == {"abandoned"}


@pytest.mark.anyio
async def test_the_load_can_change_while_running(writer: EvidenceWriter) -> None:
    reads_only = Load(proposals_per_second=0, reads_per_second=100, retry_share=0)
    async with serving(ProposalsInMemory()) as address, Traffic(address, ["key"], BRISK, writer, seed=SEED) as traffic:
        await eventually(lambda: traffic.operations > 50)
        traffic.change_load(reads_only)
        changed_at = writer.origin.elapsed()
        before = traffic.operations
        await eventually(lambda: traffic.operations > before + 30)

    later = [one for one in recorded(writer) if one.intended > changed_at]
    assert later
    assert not any(one.kind.writes for one in later)


def test_an_unknown_stream_is_an_error_before_anything_is_sent(writer: EvidenceWriter) -> None:
    load = Load(streams=(Stream(name="bad keys", kind="not_built", per_second=5),))

    with pytest.raises(UnknownStreamError, match="not_built"):
        Traffic("http://127.0.0.1:1", ["key"], load, writer, seed=SEED)


@pytest.mark.anyio
async def test_a_stream_comes_beside_the_background_at_its_own_rate_and_says_so_in_every_line(
    writer: EvidenceWriter,
) -> None:
    bad = Stream(name="bad keys", kind="invalid_key", per_second=50, parameters={"causes": ["unknown", "malformed"]})
    load = Load(proposals_per_second=20, reads_per_second=20, streams=(bad,))
    service = ProposalsInMemory()
    async with serving(service) as address, Traffic(address, ["key"], BRISK, writer, seed=SEED) as traffic:
        traffic.change_load(load)
        await eventually(lambda: sum("why" in line for line in lines(writer)) >= 40, seconds=20)
        traffic.change_load(BRISK)
        await traffic.drain()

    rows = [row.data for row in Evidence(writer.folder).rows(HISTORY) if row.data.get("stream") == "bad keys"]
    assert {row["why"] for row in rows if row["type"] == "invoke"} == {"unknown", "malformed"}
    assert len([row for row in rows if row["type"] == "invoke"]) * 2 == len(rows)
    own = [one for one in recorded(writer) if one.stream == "bad keys"]
    assert {one.principal for one in own} == {"stranger"}
    gaps = [later.intended - earlier.intended for earlier, later in itertools.pairwise(own)]
    assert statistics.mean(gaps) == pytest.approx(1 / 50, rel=0.1)
    assert max(gaps) < 2 / 50
    assert any(one.stream is None for one in recorded(writer))


def test_a_streams_instants_do_not_drift() -> None:
    one = Stream(name="bad keys", kind="invalid_key", per_second=4)
    offsets = list(itertools.islice(instants(one, SEED), 400))

    assert offsets == sorted(offsets)
    assert offsets == list(itertools.islice(instants(one, SEED), 400))
    assert offsets[-1] == pytest.approx(100, abs=0.3)


@pytest.mark.parametrize("cause", KEY_CAUSES)
def test_an_invalid_key_is_wrong_in_the_way_it_says_and_never_one_that_exists(cause: str) -> None:
    known = "amgf_0123456789ab_" + "s" * 43 + "c" * 6
    one = Stream(name="bad", kind="invalid_key", per_second=1, parameters={"causes": [cause]})
    occasion = Occasion(one, 1, 0.0, random.Random(SEED), Means(api_keys={"ann": known}))  # noqa: S311

    key = KINDS["invalid_key"](occasion).headers["X-API-Key"]

    assert key != known
    assert key.startswith("amgf_0123456789ab_") is (cause == "wrong_secret")
    assert len(key) == len(known) or cause == "malformed"


@pytest.mark.anyio
async def test_the_snapshot_tells_the_last_second(writer: EvidenceWriter) -> None:
    async def failing(_: Question) -> Answer:
        return Answer(503, {"code": "database-unavailable"}, {"retry-after": "1", "x-replica": "replica-2"})

    async with serving(failing) as address, Traffic(address, ["key"], BRISK, writer, seed=SEED) as traffic:
        await eventually(lambda: traffic.snapshot().fail > 20)
        snapshot = traffic.snapshot()

    assert snapshot.ok == snapshot.info == 0
    assert snapshot.rate > 20
    assert snapshot.p99_ms is not None
    writes = [one for one in recorded(writer) if one.kind.writes]
    assert all((one.answer("code"), one.answer("retry_after")) == ("database-unavailable", "1") for one in writes)
