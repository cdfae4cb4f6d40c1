"""Random lives of proposals, with many people at once, against a model of the design (chaos.md section 7).

Whatever is done, alone or together: the answers and what is stored are those of some order of the model's steps, heads
are chains, nothing is applied without the model's own count of a quorum, and each effect has one event.
"""

from collections.abc import Iterator

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from app.core.governance.policy_set import DEFAULT
from tests.integration.service.applying import QUORUM, UNLOCKED
from tests.integration.service.gate import Founded, found
from tests.integration.service.life_machine import Lives
from tests.integration.service.running import _running
from tests.integration.service.stages import Stages, by_hand

pytestmark = pytest.mark.integration

STEPS_OF_A_LIFE = 25
REACHED = {"applied", "rolled_back", "rejected", "stale", "withdrawn", "at once"}
"""What the few lives of an ordinary run come to, or they would say little."""


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Founded]:
    """Nothing is locked for a time, not even the rules."""
    governance = {"governance": {**DEFAULT.document()["quorum"]["governance"], "time_lock_seconds": 0}}
    folder = tmp_path_factory.mktemp("lives")
    with _running(folder) as server:
        assert server.command("app.migrations.apply").returncode == 0
        yield found(server, folder, quorum={**QUORUM, **UNLOCKED, **governance})


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as made:
        yield made


@pytest.fixture(scope="module")
def stages(founded: Founded, portal: BlockingPortal) -> Iterator[Stages]:
    with portal.wrap_async_context_manager(by_hand(founded)) as made:
        yield made


@pytest.mark.timeout(0)
def test_every_life_is_one_that_the_model_allows(stages: Stages, portal: BlockingPortal, lives: int, seed: int) -> None:
    reached: set[str] = set()

    class Machine(Lives):
        def __init__(self) -> None:
            super().__init__(stages, portal, reached)

    run_state_machine_as_test(
        seeded(seed)(Machine),
        settings=settings(
            max_examples=lives,
            stateful_step_count=STEPS_OF_A_LIFE,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

    assert reached >= REACHED
