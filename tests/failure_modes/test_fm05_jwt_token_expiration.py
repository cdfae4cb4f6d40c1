"""FM05, whole, against the real stack: both injections, all 7 claims, and each mitigation missed when broken."""

import pytest

from tests.failure_modes.trials import Caught, FailureModeTests, Trial

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(3_600)]


class TestFm05(FailureModeTests):
    failure_mode = "FM05"
    trials = (
        Trial(
            injections=("expired_tokens",),
            defects={
                "expired_processed_first": Caught(by="FM05.M1", reason=r"95 % of \d+ refusals within 0\.[4-9]"),
                "no_clock_tolerance": Caught(by="FM05.M2", reason="were refused within the tolerance"),
                "expiry_not_told": Caught(by="FM05.M3", reason="do not say 'token expired'"),
            },
        ),
    )
