"""FM16, whole, against the real stack: both injections, all 11 claims, and each mitigation missed when broken."""

import pytest

from tests.failure_modes.trials import Caught, FailureModeTests, Trial

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(3_600)]


class TestFm16(FailureModeTests):
    failure_mode = "FM16"
    trials = (
        Trial(
            injections=("wrong_settings",),
            defects={
                "settings_judged_late": Caught(by="FM16.M1", reason=r"a life lasted [4-9]"),
                "types_unchecked": Caught(by="FM16.M2", reason="not refused: .*FIREWALL_POOL_CONNECTIONS_MAX"),
                "required_guessed": Caught(by="FM16.M3", reason="not refused: FIREWALL_DATABASE_HOST"),
                "default_without_end": Caught(by="FM16.M4", reason="FIREWALL_REQUEST_DEADLINE_SECONDS is 330, not 3"),
            },
        ),
    )
