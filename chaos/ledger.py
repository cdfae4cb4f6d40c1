"""The claims ledger: every documented claim has a check or a dated, reasoned waiver, and nothing else has.

``confront`` compares the document with the scenarios and returns every gap; a run with gaps exits 4.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import msgspec
import yaml

from chaos.matrix import NOT_BUILT, Matrix
from chaos.scenario import Scenario

WAIVERS = Path(__file__).resolve().parent / "waivers.yaml"


class Waiver(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a claim has no check, since when, and until when that is accepted."""

    kind: Literal["human"]  # a step only a person can do
    reason: str
    granted: date
    until: date  # the last day it holds

    def holds(self, on: date) -> bool:
        """Whether the waiver is in force on a day."""
        return self.granted <= on <= self.until


@dataclass(frozen=True, slots=True)
class Gap:
    """Something the ledger owes: a claim nobody checks, a check of no claim, a waiver out of date."""

    failure_mode: str
    problem: str

    def __str__(self) -> str:
        return self.problem


def load_waivers(path: Path = WAIVERS) -> dict[str, Waiver]:
    """Read the waivers; raises ``msgspec.ValidationError`` naming the field that is wrong."""
    return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, dict[str, Waiver])


def confront(
    matrix: Matrix,
    scenarios: Collection[Scenario],
    waivers: Mapping[str, Waiver],
    *,
    on: date,
    not_built: Collection[str] = NOT_BUILT,
) -> tuple[Gap, ...]:
    """Return every gap between the document and the scenarios, in document order; none is the goal."""
    return (
        *_modes(matrix, scenarios, not_built),
        *(gap for scenario in scenarios for gap in _scenario(matrix, scenario, waivers)),
        *_waivers(matrix, waivers, on),
    )


def _modes(matrix: Matrix, scenarios: Collection[Scenario], not_built: Collection[str]) -> Iterator[Gap]:
    documented = {mode.id for mode in matrix.modes}
    built = [scenario.failure_mode for scenario in scenarios]
    for mode in sorted({*not_built, *built} - documented):
        yield Gap(mode, f"{mode}: the document has no such failure mode")
    for mode in sorted(documented):
        if built.count(mode) > 1:
            yield Gap(mode, f"{mode}: has {built.count(mode)} scenarios; one holds all its injections")
        if mode in built and mode in not_built:
            yield Gap(mode, f"{mode}: has a scenario; take it out of NOT_BUILT in chaos/matrix.py")
        if mode not in built and mode not in not_built:
            yield Gap(mode, f"{mode}: has no scenario and is not listed in NOT_BUILT in chaos/matrix.py")


def _scenario(matrix: Matrix, scenario: Scenario, waivers: Mapping[str, Waiver]) -> Iterator[Gap]:
    try:
        mode = matrix.mode(scenario.failure_mode)
    except KeyError:
        return  # said by _modes
    claims = {claim.id for claim in mode.claims}
    injections = {injection.name for injection in scenario.injections}
    problems = [
        *(f"{claim}: is neither checked nor waived" for claim in sorted(claims - {*scenario.checks, *waivers})),
        *(f"{claim}: is checked, so its waiver must go" for claim in sorted(claims & {*scenario.checks} & {*waivers})),
        *(
            f"{claim}: is checked by {mode.id}, which claims no such thing"
            for claim in sorted({*scenario.checks} - claims)
        ),
        *(
            f"{name}: rests on injections, but is no check or invariant of {mode.id}"
            for name in sorted({*scenario.rests_on} - {*scenario.checks, *scenario.invariants})
        ),
        *(
            f"{name}: rests on {', '.join(sorted({*needed} - injections)) or 'no injection'}, which {mode.id} has not"
            for name, needed in sorted(scenario.rests_on.items())
            if not needed or {*needed} - injections
        ),
    ]
    if scenario.slug != mode.slug:
        problems.append(f"{mode.id}: slug {scenario.slug!r} is not the heading's {mode.slug!r}")
    if scenario.alert is not None and scenario.alert not in mode.alerts:
        problems.append(
            f"{mode.id}: alert {scenario.alert!r} is not one of its document's: {', '.join(mode.alerts) or 'none'}"
        )
    if missing := {*mode.alerts} - {scenario.alert, *scenario.co_alerts}:
        problems.append(f"{mode.id}: does not expect its documented alert {', '.join(sorted(missing))}")
    for problem in problems:
        yield Gap(mode.id, problem)


def _waivers(matrix: Matrix, waivers: Mapping[str, Waiver], on: date) -> Iterator[Gap]:
    for claim, waiver in sorted(waivers.items()):
        mode = claim.partition(".")[0]
        if claim not in matrix.claims:
            yield Gap(mode, f"{claim}: is waived, but the document claims no such thing")
        if not waiver.reason.strip():
            yield Gap(mode, f"{claim}: its waiver gives no reason")
        if waiver.until < waiver.granted:
            yield Gap(mode, f"{claim}: its waiver ends ({waiver.until}) before it begins ({waiver.granted})")
        elif not waiver.holds(on):
            yield Gap(mode, f"{claim}: its waiver holds from {waiver.granted} to {waiver.until}, not on {on}")
