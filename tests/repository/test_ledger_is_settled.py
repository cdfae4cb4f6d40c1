"""The document, the scenarios and the waivers owe each other nothing."""

from chaos.ledger import confront, load_waivers
from chaos.matrix import load_matrix
from chaos.scenarios import SCENARIOS


def test_every_claim_of_a_built_mode_has_a_check_or_a_waiver() -> None:
    waivers = load_waivers()
    granted = max(waiver.granted for waiver in waivers.values())  # expiry is the run's business (exit 4), not a test's

    gaps = confront(load_matrix(), tuple(SCENARIOS.values()), waivers, on=granted)

    assert [str(gap) for gap in gaps] == []
