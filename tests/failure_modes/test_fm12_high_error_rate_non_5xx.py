"""FM12, whole, on the real stack: two ways to the alert, two that only look like it, and each mitigation broken."""

import pytest

from tests.failure_modes.trials import Caught, FailureModeTests, Trial

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(3_600)]


class TestFm12(FailureModeTests):
    failure_mode = "FM12"
    trials = (
        Trial(
            injections=("few_refusals",),
            defects={
                "refusals_logged_without_reason": Caught(by="FM12.M1", reason="refusals are not logged well"),
                "refusals_without_a_field": Caught(by="FM12.M2", reason="are not clear"),
                "description_of_another_version": Caught(by="FM12.M3", reason="are not in the description"),
            },
        ),
    )
