import json
from typing import Any

import pytest

from compose.actuator import Runtime, signature

KEY = b"of the actuators, and long enough"
DOCUMENT = {"b": 1, "a": ["x"]}


def delivery(version: int = 2, *, target: str = "moving-00") -> bytes:
    return json.dumps({"target": target, "version": version, "document": DOCUMENT}).encode()


def taken(body: bytes, sent: str, runtime: Runtime | None = None) -> tuple[int, dict[str, Any]]:
    return (runtime or Runtime(KEY, "key", "http://127.0.0.1:1")).take(body, sent)


def test_a_delivery_signed_for_its_target_is_run_and_observed_by_its_own_digest() -> None:
    status, observed = taken(delivery(), signature(KEY, "moving-00", delivery()))

    assert (status, observed["version"]) == (202, 2)
    assert observed["digest"].startswith("sha256:")


@pytest.mark.parametrize(
    ("body", "sent", "status"),
    [
        pytest.param(delivery(), "", 401, id="unsigned"),
        pytest.param(
            delivery(), signature(b"another key of that length, more", "moving-00", delivery()), 401, id="key"
        ),
        pytest.param(delivery(), signature(KEY, "moving-01", delivery()), 401, id="signed for another target"),
        pytest.param(delivery(3), signature(KEY, "moving-00", delivery(2)), 401, id="changed on its way"),
        pytest.param(b"{}", signature(KEY, "", b"{}"), 400, id="no delivery"),
        pytest.param(b"[", signature(KEY, "", b"["), 400, id="no JSON"),
    ],
)
def test_another_delivery_is_not_run(body: bytes, sent: str, status: int) -> None:
    runtime = Runtime(KEY, "key", "http://127.0.0.1:1")

    assert taken(body, sent, runtime)[0] == status
    assert runtime.running == {}


def test_an_older_version_is_not_run_after_a_newer_one_and_the_same_again_is() -> None:
    runtime = Runtime(KEY, "key", "http://127.0.0.1:1")

    statuses = [taken(delivery(n), signature(KEY, "moving-00", delivery(n)), runtime)[0] for n in (2, 3, 2, 3)]

    assert statuses == [202, 202, 409, 202]
    assert runtime.running == {"moving-00": 3}


def test_neither_key_shows_in_a_repr() -> None:
    assert "long enough" not in repr(Runtime(KEY, "the api key", "x"))
    assert "the api key" not in repr(Runtime(KEY, "the api key", "x"))
