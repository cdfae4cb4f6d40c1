"""FM04, whole, against the real stack: all four injections, all 12 claims, and each mitigation missed when broken."""

import pytest

from tests.failure_modes.trials import Caught, FailureModeTests, Trial

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(3_600)]


class TestFm04(FailureModeTests):
    failure_mode = "FM04"
    trials = (
        Trial(
            injections=("bad_credentials", "brute_force"),
            defects={
                "wrong_secret_accepted": Caught(by="FM04.M1", reason=r"were processed \(.*wrong_secret"),
                "strangers_unlimited": Caught(by="FM04.M2", reason="guesses were looked at"),
                "address_not_logged": Caught(
                    by="FM04.M3", reason="authentication_failed was not logged with its facts"
                ),
                "typo_told": Caught(by="FM04.M4", reason=r"answers 401 differ in \d+ ways"),
            },
        ),
    )
