"""A real Alertmanager with our configuration: who is woken, and that a cause's symptoms wake nobody."""

import asyncio
import http.server
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from compose import programs
from slo import alertmanager, alerts, profiles, rules
from tests.eventually import eventually

pytestmark = [pytest.mark.integration, pytest.mark.anyio]
FAST = profiles.load("fast")


@dataclass
class Receiver:
    """Keeps what Alertmanager delivers: receiver's path, status, alert names."""

    address: str = ""
    delivered: list[tuple[str, str, frozenset[str]]] = field(default_factory=list)

    def names(self, receiver: str, status: str = "firing") -> set[str]:
        return {name for path, told, names in self.delivered for name in names if (path, told) == (receiver, status)}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    kept = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            names = frozenset(alert["labels"]["alertname"] for alert in body["alerts"])
            kept.delivered.append((self.path.removeprefix("/"), body["status"], names))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        kept.address = f"http://127.0.0.1:{serving.server_port}"
        yield kept
        serving.shutdown()
        thread.join(timeout=5)


@pytest.fixture
async def manager(receiver: Receiver, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    configuration = tmp_path / "alertmanager.yml"
    configuration.write_text(alertmanager.render(FAST, receiver.address))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (tmp_path / "alertmanager.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            programs.find("alertmanager"),
            f"--config.file={configuration}",
            f"--storage.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            stdout=log,
            stderr=log,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=2, trust_env=False) as client:
            async with asyncio.timeout(20):
                while not await _ready(client):  # noqa: ASYNC110 - another process's doing
                    await asyncio.sleep(0.05)
            yield client
    finally:
        process.kill()
        await process.wait()


async def _ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/-/ready")).status_code == 200
    except httpx.HTTPError:
        return False


def alert(
    name: str, *, environment: str = "production", run: str = "test", pod: str = "", ends: bool = False
) -> dict[str, object]:
    specified = alerts.load()
    now = datetime.now(UTC)
    return {
        "labels": {
            "alertname": name,
            "env": environment,
            "service": "firewall",
            "run": run,
            **rules.labels(specified.named(name), specified),
            **({"pod": pod} if pod else {}),
        },
        "startsAt": (now - timedelta(seconds=1)).isoformat(),
        "endsAt": (now if ends else now + timedelta(minutes=1)).isoformat(),
    }


async def send(client: httpx.AsyncClient, *sent: dict[str, object]) -> None:
    (await client.post("/api/v2/alerts", json=list(sent))).raise_for_status()


async def states(client: httpx.AsyncClient) -> dict[str, str]:
    listed = (await client.get("/api/v2/alerts")).json()
    return {one["labels"]["alertname"]: one["status"]["state"] for one in listed}


async def test_a_cause_is_paged_and_its_symptoms_wake_nobody_even_after_it(
    manager: httpx.AsyncClient, receiver: Receiver
) -> None:
    symptoms = next(one.symptoms for one in alerts.load_inhibitions().inhibitions if "Connection" in one.cause)
    # The symptoms come first, as they do when requests fail before the probe has seen the database go.
    await send(manager, *(alert(name, pod=_pod(name)) for name in symptoms))
    await send(manager, alert("DatabaseConnectionDown"), alert("Watchdog"))

    await eventually(lambda: "DatabaseConnectionDown" in receiver.names("page"), seconds=15)
    await eventually(lambda: "Watchdog" in receiver.names("watchdog"), seconds=15)

    assert await states(manager) == {
        "DatabaseConnectionDown": "active",
        "Watchdog": "active",
        **dict.fromkeys(symptoms, "suppressed"),
    }
    await send(manager, *(alert(name, ends=True, pod=_pod(name)) for name in symptoms))
    await send(manager, alert("DatabaseConnectionDown", ends=True))
    await eventually(lambda: "DatabaseConnectionDown" in receiver.names("page", "resolved"), seconds=15)
    told = {name for _, _, names in receiver.delivered for name in names}
    assert told == {"DatabaseConnectionDown", "Watchdog"}
    assert not receiver.names("lead"), "nobody else is called before the response time is over"


async def test_the_same_symptom_of_another_environment_or_run_is_not_hidden(
    manager: httpx.AsyncClient, receiver: Receiver
) -> None:
    await send(
        manager,
        alert("DatabaseConnectionDown"),
        alert("HighServerErrorRate", run="another"),
        alert("ServiceNetworkFailure", environment="staging", pod="replica-1"),
    )

    await eventually(lambda: "HighServerErrorRate" in receiver.names("page"), seconds=15)
    await eventually(lambda: "ServiceNetworkFailure" in receiver.names("team"), seconds=15)

    assert set((await states(manager)).values()) == {"active"}


def _pod(name: str) -> str:
    return "replica-1" if name == "ServiceNetworkFailure" else ""
