import asyncio
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from chaos.evidence import Evidence, EvidenceWriter, Origin, Row
from chaos.probes.alerts import ALERTS, PENDING, watch_alerts
from chaos.probes.attempts import ATTEMPTS, attempt_of, watch_attempts
from chaos.probes.direct import DIRECT, watch_direct
from chaos.probes.export import PROMETHEUS, export
from chaos.probes.follower import LineFollower
from chaos.probes.health import HEALTH, watch_health
from chaos.probes.metrics import METRICS, sample_name, selected, watch_metrics
from chaos.probes.notifications import NOTIFICATIONS, Receiver
from chaos.probes.replicas import REPLICAS, watch_replicas
from chaos.probes.service_log import service_log
from chaos.probes.sessions import SESSIONS, watch_sessions
from chaos.probes.targets import ReplicaTarget, Targets
from chaos.probes.watch import Probes
from tests.eventually import eventually
from tests.unit.chaos.little_servers import Answer, Question, refused_address, serving


@pytest.fixture
def writer(tmp_path: Path) -> EvidenceWriter:
    return EvidenceWriter(tmp_path, Origin.now())


def rows(writer: EvidenceWriter, name: str) -> tuple[Row, ...]:
    return Evidence(writer.folder).rows(name)


async def while_watching(watch: Any, seen: Callable[[], bool]) -> None:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch)
        await eventually(seen)
        task.cancel()


@pytest.mark.anyio
async def test_a_replica_that_hangs_stops_no_other_look_and_silence_is_recorded(writer: EvidenceWriter) -> None:
    async def hanging_when_asked_for_all(question: Question) -> Answer:
        if question.path == "/health":
            await asyncio.Event().wait()
        return Answer(503 if question.path == "/health/ready" else 200)

    async with serving(hanging_when_asked_for_all) as address:
        targets = Targets(
            replicas=(
                ReplicaTarget("replica-1", address, address),
                ReplicaTarget("replica-2", refused_address(), refused_address()),
            ),
        )

        def seen() -> bool:
            found = rows(writer, HEALTH)
            return len(found) > 40 and any(row.data.get("error") == "timeout" for row in found)

        watch = watch_health(targets, writer, period_seconds=0.02, deadline_seconds=0.2)
        await while_watching(watch, seen)

    found = {
        (row.data["replica"], row.data["path"], row.data.get("status"), row.data.get("error"))
        for row in rows(writer, HEALTH)
    }
    assert found == {
        ("replica-1", "/health", None, "timeout"),
        ("replica-1", "/health/ready", 503, None),
        ("replica-1", "/health/live", 200, None),
        ("replica-2", "/health", None, "refused"),
        ("replica-2", "/health/ready", None, "refused"),
        ("replica-2", "/health/live", None, "refused"),
    }


EXPOSITION = """\
# HELP firewall_circuit_state 0 closed, 1 half-open, 2 open.
# TYPE firewall_circuit_state gauge
firewall_circuit_state{dependency="database"} 2.0
# TYPE firewall_requests_total counter
firewall_requests_total{status="201",method="POST",route="/api/v1/proposals"} 17.0
firewall_requests_created{status="201",method="POST",route="/api/v1/proposals"} 1.7e9
firewall_waiting_room_waiters 3
python_gc_objects_collected_total{generation="0"} 12.0
"""


def test_only_the_wanted_series_are_kept_under_names_with_ordered_labels() -> None:
    names = {"firewall_circuit_state", "firewall_requests_total", "firewall_waiting_room_waiters"}

    assert selected(EXPOSITION, names) == {
        'firewall_circuit_state{dependency="database"}': 2.0,
        'firewall_requests_total{method="POST",route="/api/v1/proposals",status="201"}': 17.0,
        "firewall_waiting_room_waiters": 3.0,
    }
    assert sample_name("firewall_circuit_state", dependency="database") in selected(EXPOSITION, names)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(Answer(200, EXPOSITION), "series", id="readable"),
        pytest.param(Answer(500, "no"), "HTTPStatusError", id="an error page"),
        pytest.param(Answer(200, 'firewall_circuit_state{dependency="data'), "ValueError", id="cut off"),
    ],
)
async def test_metrics_that_cannot_be_read_are_an_error_row(
    writer: EvidenceWriter, answer: Answer, expected: str
) -> None:
    async def respond(_: Question) -> Answer:
        return answer

    async with serving(respond) as address:
        targets = Targets(replicas=(ReplicaTarget("replica-1", address, address),))
        await while_watching(watch_metrics(targets, writer, period_seconds=0.02), lambda: bool(rows(writer, METRICS)))

    row = rows(writer, METRICS)[0].data
    assert expected in {*row, row.get("error")}


@pytest.mark.anyio
async def test_alerts_are_recorded_from_both_ends(writer: EvidenceWriter) -> None:
    labels = {"alertname": "HighServerErrorRate", "severity": "critical"}
    status = {"state": "suppressed", "inhibitedBy": ["f00"], "silencedBy": []}

    async def respond(question: Question) -> Answer:
        if question.path == "/api/v2/alerts":
            return Answer(200, [{"labels": labels, "status": status, "annotations": {}}])
        return Answer(200, {"data": {"alerts": [{"labels": labels, "state": "pending", "value": "1"}]}})

    async with serving(respond) as address:
        watch = watch_alerts(Targets(alertmanager=address, prometheus=address), writer, period_seconds=0.02)
        await while_watching(watch, lambda: bool(rows(writer, ALERTS) and rows(writer, PENDING)))

    [alert] = rows(writer, ALERTS)[0].data["alerts"]
    assert (alert["name"], alert["state"], alert["inhibited_by"]) == ("HighServerErrorRate", "suppressed", ["f00"])
    [pending] = rows(writer, PENDING)[0].data["alerts"]
    assert (pending["name"], pending["state"]) == ("HighServerErrorRate", "pending")


@pytest.mark.anyio
async def test_the_receiver_records_what_is_delivered_and_refuses_what_is_not_a_delivery(
    writer: EvidenceWriter,
) -> None:
    alert = {"labels": {"alertname": "DatabaseConnectionDown"}, "status": "firing"}
    async with Receiver(writer, port=0) as receiver, httpx.AsyncClient(trust_env=False) as client:
        address = f"http://127.0.0.1:{receiver.port}"
        accepted = await client.post(f"{address}/page", json={"status": "firing", "alerts": [alert]})
        refused = await client.post(f"{address}/page", content=b"not json")

    assert (accepted.status_code, refused.status_code) == (200, 400)
    delivered, wrong = rows(writer, NOTIFICATIONS)
    assert delivered.data["receiver"] == "page"
    assert [one["name"] for one in delivered.data["alerts"]] == ["DatabaseConnectionDown"]
    assert "error" in wrong.data


@pytest.mark.anyio
async def test_leaving_the_receiver_with_an_error_frees_its_port(writer: EvidenceWriter) -> None:
    receiver = Receiver(writer, port=0)
    with pytest.raises(RuntimeError):
        async with receiver:
            raise RuntimeError

    async with Receiver(writer, port=receiver.port) as again:
        assert again.port == receiver.port


@pytest.mark.anyio
async def test_a_database_that_is_away_is_an_error_row_without_its_address(writer: EvidenceWriter) -> None:
    port = refused_address().rpartition(":")[2]
    targets = Targets(database=f"host=127.0.0.1 port={port} user=firewall_monitor password=canary-secret")

    await while_watching(watch_sessions(targets, writer, period_seconds=0.02), lambda: len(rows(writer, SESSIONS)) > 2)

    assert all("error" in row.data for row in rows(writer, SESSIONS))
    assert "canary-secret" not in (writer.folder / SESSIONS).read_text()


@pytest.mark.anyio
async def test_a_replica_is_asked_directly_and_its_refusal_is_recorded_without_the_key(writer: EvidenceWriter) -> None:
    async def refuse(question: Question) -> Answer:
        known = question.headers.get("x-api-key") == "canary-secret"
        return Answer(503 if known else 401, {"code": "database-unavailable"}, {"retry-after": "4"})

    async with serving(refuse) as address:
        targets = Targets(replicas=(ReplicaTarget("replica-1", address, address),), api_key="canary-secret")
        watch = watch_direct(targets, writer, period_seconds=0.02)
        await while_watching(watch, lambda: bool(rows(writer, DIRECT)))

    row = rows(writer, DIRECT)[0].data
    assert (row["status"], row["code"], row["retry_after"]) == (503, "database-unavailable", "4")
    assert "canary-secret" not in (writer.folder / DIRECT).read_text() + repr(targets)


@pytest.mark.anyio
async def test_what_runs_the_replicas_is_asked_with_a_deadline(writer: EvidenceWriter) -> None:
    answers: list[Mapping[str, Mapping[str, Any]] | None] = [{"replica-1": {"pid": 7, "restarts": 0}}, None]

    async def status() -> Mapping[str, Mapping[str, Any]]:
        answer = answers.pop(0) if answers else None
        if answer is None:
            await asyncio.Event().wait()
        return answer or {}

    watch = watch_replicas(Targets(replica_status=status), writer, period_seconds=0.02, deadline_seconds=0.1)
    await while_watching(watch, lambda: len(rows(writer, REPLICAS)) > 1)

    first, second = rows(writer, REPLICAS)[:2]
    assert first.data["replicas"] == {"replica-1": {"pid": 7, "restarts": 0}}
    assert second.data["error"] == "timeout"


# Lines of Toxiproxy 2.12.0 at level info.
_ACCEPTED = (
    '{"level":"info","name":"database-1","listen":"127.0.0.1:15431","upstream":"127.0.0.1:5432",'
    '"client":"127.0.0.1:45264","caller":"proxy.go:204","time":"2026-11-23T19:13:26Z","message":"Accepted client"}'
)
_UNREACHABLE = (
    '{"level":"error","name":"database-1","listen":"127.0.0.1:15431","upstream":"127.0.0.1:5432",'
    '"error":"dial tcp 127.0.0.1:5432: connect: connection refused","client":"127.0.0.1:45264",'
    '"caller":"proxy.go:211","time":"2026-11-23T19:13:26Z","message":"Unable to open connection to upstream"}'
)


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        pytest.param(_ACCEPTED, "accepted", id="accepted"),
        pytest.param(_UNREACHABLE, "upstream_unreachable", id="upstream unreachable"),
        pytest.param('{"level":"info","message":"Terminated proxy"}', None, id="another line"),
        pytest.param("panic: runtime error", None, id="not JSON"),
        pytest.param('["Accepted client"]', None, id="not an object"),
    ],
)
def test_a_log_line_of_toxiproxy_tells_of_an_attempt_or_not(line: str, outcome: str | None) -> None:
    attempt = attempt_of(line)

    assert (attempt and attempt["outcome"]) == outcome
    if attempt:
        assert (attempt["proxy"], attempt["client"]) == ("database-1", "127.0.0.1:45264")


def test_a_torn_last_line_waits_for_its_end(tmp_path: Path) -> None:
    log = tmp_path / "toxiproxy.log"
    follower = LineFollower(log)
    assert follower.lines() == []

    log.write_text("one\ntw")
    assert follower.lines() == ["one"]
    with log.open("a") as file:
        file.write("o\nthree\n")

    assert follower.lines() == ["two", "three"]
    assert follower.lines() == []


@pytest.mark.anyio
async def test_attempts_are_stamped_on_sight_and_older_ones_left_out(writer: EvidenceWriter, tmp_path: Path) -> None:
    log = tmp_path / "toxiproxy.log"
    log.write_text(_ACCEPTED + "\n")
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch_attempts(log, writer))
        await asyncio.sleep(0)
        with log.open("a") as file:
            file.write(_ACCEPTED + "\n" + _UNREACHABLE + "\n")
        await eventually(lambda: len(rows(writer, ATTEMPTS)) == 2)
        task.cancel()

    assert [row.data["outcome"] for row in rows(writer, ATTEMPTS)] == ["accepted", "upstream_unreachable"]


def test_a_service_log_is_put_on_the_scenarios_clock_and_foreign_lines_are_left_out(tmp_path: Path) -> None:
    origin = Origin(monotonic_ns=5_000_000_000, wall_ns=1_767_225_600_000_000_000)  # 2026-01-01T00:00:00Z
    (tmp_path / "environment.json").write_text(
        json.dumps({"origin_monotonic_ns": origin.monotonic_ns, "origin_wall_ns": origin.wall_ns})
    )
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "replica-1.log").write_text(
        "Traceback (most recent call last):\n"
        '{"timestamp": "2026-01-01T00:00:02.250000Z", "level": "warning", "event": "database_unreachable"}\n'
        '{"event": "without an instant"}\n'
    )

    [row] = service_log(Evidence(tmp_path), "replica-1")

    assert row.t == pytest.approx(2.25)
    assert (row.data["event"], row.reference.place) == ("database_unreachable", "line 2")
    assert service_log(Evidence(tmp_path), "replica-2") == ()


@pytest.mark.anyio
async def test_the_export_keeps_every_series_and_says_which_query_failed(writer: EvidenceWriter) -> None:
    wall = writer.origin.wall_ns / 1e9
    asked: list[bytes] = []

    async def respond(question: Question) -> Answer:
        asked.append(question.body)
        if b"broken" in question.body:
            return Answer(400, {"status": "error"})
        series = {"metric": {"alertname": "A"}, "values": [[wall + 1, "1"], [wall + 2, "1"]]}
        return Answer(200, {"data": {"result": [series]}})

    async with serving(respond) as address:
        await export(address, writer, start=0, end=10, queries={"alerts": "ALERTS", "bad": "broken("})

    good, bad = rows(writer, PROMETHEUS)
    assert (good.t, good.data["labels"], good.data["values"]) == (1.0, {"alertname": "A"}, [[1.0, 1.0], [2.0, 1.0]])
    assert (bad.data["query"], bad.data["error"]) == ("bad", "HTTPStatusError")
    assert len(asked) == 2


@pytest.mark.anyio
async def test_all_probes_run_side_by_side_and_end_at_once(writer: EvidenceWriter) -> None:
    async def respond(question: Question) -> Answer:
        return Answer(200, EXPOSITION if question.path == "/metrics" else [])

    async def look() -> dict[str, Any]:
        return {"seen": True}

    async with serving(respond) as address:
        targets = Targets(
            replicas=(ReplicaTarget("replica-1", address, address),), alertmanager=address, notifications_port=0
        )
        names = (HEALTH, METRICS, ALERTS, "samples/own.jsonl")
        async with Probes(targets, writer, own={"own": (0.05, look)}) as probes:
            assert probes.notifications_port
            await eventually(lambda: all(rows(writer, name) for name in names))
            leaving_at = time.monotonic()

    assert time.monotonic() - leaving_at < 3


@pytest.mark.anyio
async def test_a_defect_of_a_probe_is_not_swallowed(writer: EvidenceWriter) -> None:
    async def defective() -> dict[str, Any]:
        raise AttributeError

    wait_for_ever = partial(asyncio.Event().wait)
    with pytest.RaisesGroup(AttributeError, flatten_subgroups=True):
        async with Probes(Targets(), writer, own={"own": (0.05, defective)}):
            await wait_for_ever()
