"""How long a refusal takes does not tell why, where that would give something away (FM04; docs/adr/0038)."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.planted import plant
from tests.integration.service import timing
from tests.integration.service.process import replica
from tests.integration.service.running import SERVICE, Server
from tests.integration.service.timing import Compared, mann_whitney_z
from tests.integration.service.wrong_credentials import KEY, MAC, SIGNATURE, WrongCredentials, wrong_credentials
from tests.unit.service.signed_tokens import AUDIENCE, ISSUER, Issuer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

MANY = "1000000"
SEEN_MICROSECONDS_MAX = 100
"""What a run must be able to see: a third of a statement. With 2,000 samples it sees 10 to 20 us, with 20,000 five."""
FEW = 300
"""Samples that show what the planted defects leak on a quiet machine: 100 us and more."""
MORE = (1, 4, 12)
"""So many times as many samples are taken, one after the other, while the machine is too busy for fewer to tell."""
DEFECTS = Path(__file__).parent / "defects"


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path)


@pytest.fixture
def wrong(server: Server, issuer: Issuer) -> WrongCredentials:
    return wrong_credentials(server, issuer)


def compared(
    server: Server, issuer: Issuer, wrong: WrongCredentials, *, service: Path = SERVICE, each: int, seed: int
) -> Compared:
    """Time every cause of a group against a process that runs ``service``."""
    limits = {"RATE_LIMIT_ADDRESS_PER_MINUTE": MANY, "RATE_LIMIT_ADDRESS_BURST": MANY}
    tokens = {"TOKEN_KEYS_FILE": str(issuer.file), "TOKEN_ISSUER": ISSUER, "TOKEN_AUDIENCE": AUDIENCE}
    grouped = {name: cause for name, cause in wrong.causes.items() if cause.group}
    groups = {
        group: [name for name, cause in grouped.items() if cause.group == group] for group in (KEY, SIGNATURE, MAC)
    }
    with replica(server, service=service, output=subprocess.DEVNULL, **limits, **tokens) as running:
        running.await_status("/health/ready", 200)
        for key in wrong.in_use:
            assert running.http.get("/api/v1/proposals", headers={"X-API-Key": key}).status_code == 200
        presented = {name: cause.presented for name, cause in grouped.items()}
        samples = timing.measure(running.port, presented, each=each, chance=random.Random(seed))  # noqa: S311 - reproducible
    return Compared(samples, groups)


def test_how_long_a_refusal_takes_does_not_tell_why(
    server: Server, issuer: Issuer, wrong: WrongCredentials, timed: int, seed: int
) -> None:
    for times in MORE:  # ends by what could be seen, not by what was
        found = compared(server, issuer, wrong, each=times * timed, seed=seed)
        is_sharp = all(found.microseconds_seen(group) <= SEEN_MICROSECONDS_MAX for group in found.groups)
        if is_sharp:
            break

    sys.stdout.write("\n".join(found.lines()))
    assert [str(one) for one in found.told_apart()] == []
    assert is_sharp, "too noisy to judge"


def test_a_service_that_does_more_for_some_is_found_out(
    server: Server, issuer: Issuer, wrong: WrongCredentials, tmp_path: Path, seed: int
) -> None:
    leaking = plant([path.stem for path in sorted(DEFECTS.glob("*.patch"))], tmp_path / "leaking", DEFECTS)

    leaks = (
        beside("a revoked key", "an unknown key", "a wrong secret", "a wrong secret of a key in use")
        | beside("an expired key", "an unknown key", "a wrong secret", "a wrong secret of a key in use")
        | beside("an unknown kid", "a forged token", "an expired and forged token")
        | beside("a MAC wrong at its last byte", "a MAC wrong at its first byte")
    )

    for times in MORE:
        found = compared(server, issuer, wrong, service=leaking, each=times * FEW, seed=seed)
        apart = {frozenset((one.first, one.second)) for one in found.told_apart()}
        if apart >= leaks:
            break

    assert apart >= leaks
    assert not apart & (
        beside("an unknown key", "a wrong secret", "a wrong secret of a key in use")
        | beside("a forged token", "an expired and forged token")
    )


def beside(cause: str, *others: str) -> set[frozenset[str]]:
    return {frozenset((cause, other)) for other in others}


def test_two_populations_that_differ_are_told_apart() -> None:
    first = [float(number) for number in range(200)]

    assert abs(mann_whitney_z(first, [one + 40 for one in first])) > 3.29
    assert abs(mann_whitney_z(first, [one + 0.5 for one in first])) < 3.29
    assert mann_whitney_z([1.0] * 50, [1.0] * 50) == 0
