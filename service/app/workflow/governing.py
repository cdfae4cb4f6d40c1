"""The constitution, as the stages ask for it: once when a simulation is concluded, once more when it is applied.

The simulation asks as well, in its own process; here nothing that a sandbox, a policy or a stored record says can stand
in the way of it (firewall.md section 8).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from app import ed25519
from app.core.governed.target import is_governance
from app.core.simulation import constitution
from app.errors import Flaw, Unconstitutional
from app.storage.governance import POLICIES, VALIDATORS, Rules

KINDS_OF_RULES: Final = frozenset({"governance"})
"""The only kinds of proposal that may touch a governing document."""


def flaws_of(target: str, kind: str, before: bytes, after: bytes, *, rules: Rules, at: datetime) -> Sequence[Flaw]:
    """Return what the constitution says against a change, nothing for targets outside `governance/`.

    `before`, `after`: canonical contents. `at`: the instant the proposal was accepted.
    """
    if not is_governance(target):
        return ()
    if kind not in KINDS_OF_RULES:
        return (Flaw("", "kind", "only a proposal of the kind governance touches the rules"),)
    return constitution.check(
        target,
        msgspec.json.decode(before),
        msgspec.json.decode(after),
        verify=ed25519.verify,
        policies=rules.documents[POLICIES],
        validators=rules.documents[VALIDATORS],
        at=at,
    )


def require_constitutional(target: str, kind: str, before: bytes, after: bytes, *, rules: Rules, at: datetime) -> None:
    """Refuse a change that the constitution does not allow, whoever approved it.

    Raises:
        Unconstitutional: with every flaw.
    """
    flaws = flaws_of(target, kind, before, after, rules=rules, at=at)
    if flaws:
        raise Unconstitutional(flaws)
