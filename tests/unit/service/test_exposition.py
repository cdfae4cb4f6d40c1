"""GET /metrics: everything, or the series asked for by name, and nothing else."""

import asyncio
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from app.api.exposition import NAMES_MAX, exposition


def _get(path: str) -> httpx.Response:
    registry = CollectorRegistry()
    Counter("first", "One.", ("kind",), registry=registry).labels("a").inc()
    Gauge("second", "Two.", registry=registry).set(2)

    async def ask() -> httpx.Response:
        application: Any = exposition(registry)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://x") as client:
            return await client.get(path)

    return asyncio.run(ask())


def _series(answer: httpx.Response) -> list[str]:
    return [line for line in answer.text.splitlines() if not line.startswith("#")]


def test_without_names_every_series_is_answered() -> None:
    assert _series(_get("/metrics")) == ['first_total{kind="a"} 1.0', "second 2.0"]


def test_named_series_are_answered_alone() -> None:
    assert _series(_get("/metrics?name[]=first_total")) == ['first_total{kind="a"} 1.0']
    assert _series(_get("/metrics?name%5B%5D=second&name%5B%5D=unknown")) == ["second 2.0"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/metrics/", 404),
        ("/", 404),
        ("/metrics?" + "&".join(["name[]=x"] * (NAMES_MAX + 1)), 400),
        ("/metrics?name[]=%ff%00", 200),
    ],
)
def test_rubbish_is_refused_or_finds_nothing(path: str, status: int) -> None:
    answer = _get(path)

    assert answer.status_code == status
    assert not [line for line in _series(answer) if line.startswith(("first", "second"))]
