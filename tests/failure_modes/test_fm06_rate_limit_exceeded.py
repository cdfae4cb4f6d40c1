"""FM06, whole, against the real stack: all five injections, all 13 claims, and each mitigation missed when broken."""

import pytest

from tests.failure_modes.trials import Caught, FailureModeTests, Trial

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(3_600)]


class TestFm06(FailureModeTests):
    failure_mode = "FM06"
    trials = (
        Trial(
            injections=("principal_floods",),
            is_alone=True,  # a flood takes a processor
            defects={
                "bucket_refills_twice": Caught(by="FM06.M1", reason="more were admitted than a bucket of 250"),
                "retry_after_zero": Caught(by="FM06.M2", reason="say no usable wait"),
                "one_bucket_for_all": Caught(by="FM06.M4", reason="others were refused"),
            },
        ),
        Trial(
            injections=("principal_floods",),
            is_alone=True,  # a flood takes a processor
            defects={"refusals_block_the_loop": Caught(by="FM06.M3", reason="others took over")},
        ),
    )
