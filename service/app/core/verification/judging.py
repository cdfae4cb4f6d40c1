"""Judging a bundle: fourteen checks, in order, all of them reported (firewall.md section 9).

A check passes, fails, does not apply (there is nothing of its kind in this bundle), or is left unchecked because this
machine cannot (another engine, no earlier checkpoint to compare with, a newer one). The bundle passes when none failed;
it is complete when none was left unchecked. Verifying signatures and running simulations are functions that the caller
passes: here is no key, no process, no network, no clock.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from app.core.governance.genesis import Genesis
from app.core.log.checkpoint import Checkpoint
from app.core.signing.keys import Verify
from app.core.verification import bundle as bundles
from app.core.verification.bundle import Bundle
from app.core.verification.checks import (
    ballots,
    chained,
    digests,
    in_force,
    quorum,
    resimulated,
    revocations,
    rooted,
    signatures,
    strict,
)
from app.core.verification.evidence import Evidence, gather
from app.core.verification.proofs import attested, grown, included, observed
from app.core.verification.terms import FAIL, TITLES, UNCHECKED, Finding, Outcome, Resimulate, Resimulated, Trust
from app.errors import InvalidBundle

__all__ = ("Finding", "Report", "Resimulate", "Resimulated", "Trust", "verify_bundle")

EXIT_BASE: Final = 10
"""The exit code of a failure is this and the number of the first check that failed."""
EXIT_UNCHECKED: Final = 3
MARKS: Final = {"pass": "ok  ", "fail": "FAIL", "not-applicable": "n/a ", "unchecked": "?   "}


CHECKS: Final[Sequence[Callable[[Evidence, Trust], Outcome]]] = (
    strict,
    rooted,
    digests,
    resimulated,
    in_force,
    signatures,
    ballots,
    quorum,
    revocations,
    chained,
    included,
    grown,
    attested,
    observed,
)


@dataclass(frozen=True, slots=True)
class Report:
    """What a verifier found."""

    proposal: str | None
    state: str | None
    findings: tuple[Finding, ...]
    note: bytes | None
    """The bundle's checkpoint, if its signature is good: to be kept for the next time."""

    @property
    def failed(self) -> Finding | None:
        """The first check that failed."""
        return next((one for one in self.findings if one.verdict == FAIL), None)

    @property
    def verdict(self) -> Literal["pass", "fail", "incomplete"]:
        """pass: every check that applies passed. incomplete: none failed, but not all could be made here."""
        if self.failed is not None:
            return "fail"
        return "incomplete" if any(one.verdict == UNCHECKED for one in self.findings) else "pass"

    @property
    def exit_code(self) -> int:
        """0 pass, 3 incomplete, 11 to 24 the first check that failed."""
        if self.failed is not None:
            return EXIT_BASE + self.failed.number
        return 0 if self.verdict == "pass" else EXIT_UNCHECKED

    def document(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "proposal": self.proposal,
            "state": self.state,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "checks": [
                {"number": one.number, "title": one.title, "verdict": one.verdict, "sentence": one.sentence}
                for one in self.findings
            ],
        }

    def lines(self) -> list[str]:
        """Return the report for a person. Sentences quote the bundle: escape them before they reach a terminal."""
        told = [f"{MARKS[one.verdict]} {one.number:2}  {one.title}: {one.sentence}" for one in self.findings]
        return [*told, f"{self.verdict}: proposal {self.proposal or '?'}, {self.state or 'state unknown'}"]


def verify_bundle(
    content: bytes | Bundle,
    *,
    trust: Genesis,
    verify: Verify,
    resimulate: Resimulate,
    now: datetime,
    kept: Checkpoint | None = None,
) -> Report:
    """Judge a bundle. `trust`: the genesis that the verifier pinned. `kept`: the checkpoint it saw last.

    `now` is the verifier's clock, for expiry only.
    """
    try:
        parsed = bundles.decode(content) if isinstance(content, bytes) else content
    except InvalidBundle as error:
        flaw = error.flaws[0]
        told = f"{flaw.pointer or '/'}: {flaw.message}"
        rest = [Finding(number, title, UNCHECKED, "the bundle cannot be read") for number, title in TITLES[1:]]
        return Report(None, None, (Finding(1, TITLES[0][1], FAIL, told), *rest), None)
    evidence = gather(parsed, verify=verify)
    means = Trust(genesis=trust, verify=verify, resimulate=resimulate, now=now, kept=kept)
    findings = tuple(
        _finding(number, title, check(evidence, means)) for (number, title), check in zip(TITLES, CHECKS, strict=True)
    )
    proposal = evidence.proposal
    note = None if evidence.tree is None else parsed.checkpoint.encode()
    return Report(parsed.proposal, proposal.state if proposal else None, findings, note)


def _finding(number: int, title: str, outcome: Outcome) -> Finding:
    return Finding(number, title, *outcome)
