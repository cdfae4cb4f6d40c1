"""FM01, whole, against the real stack: all six injections, all 13 claims, and each mitigation missed when broken."""

import pytest

from tests.failure_modes.trials import Caught, FailureModeTests, Trial

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(3_600)]


class TestFm01(FailureModeTests):
    failure_mode = "FM01"
    trials = (
        Trial(
            injections=("brief_interruption", "proxy_down"),
            defects={
                "breaker_off": Caught(by="FM01.M3", reason="the circuit did not open"),
                "acknowledge_before_commit": Caught(by="I1", reason=r"\d+ of \d+ acknowledgements are for nothing"),
            },
        ),
        Trial(
            injections=("brief_interruption", "sessions_ended", "postgres_stopped"),
            defects={
                "backoff_fixed": Caught(by="FM01.M1", reason=r"pause 2 was (0\.[89]|1\.[012])\d s"),
                "pool_without_minimum": Caught(by="FM01.M2", reason="sessions without being asked"),
                "waiting_room_closed": Caught(by="FM01.M4", reason="0 of [0-9]+ writes were kept"),
            },
        ),
    )
