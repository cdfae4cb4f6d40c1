"""Counting verdicts, and the words and orders that all outputs share."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from chaos.result import ClaimResult, Clock, Report, ScenarioResult
from chaos.verdict import Verdict

CLOCKS = ("detect", "mitigate", "recover")
BAD = (Verdict.FAIL, Verdict.UNKNOWN)
_PLACES_MAX = 3  # of one problem
WORST_FIRST = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.SKIPPED, Verdict.WAIVED, Verdict.PASS)


@dataclass(frozen=True, slots=True)
class Item:
    """Anything with a verdict that is not a documented claim: an invariant, a clock, a fault, the run itself."""

    name: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something a reader must look at; what is unknown for one and the same reason is one problem."""

    verdict: Verdict
    subject: str
    reason: str
    places: tuple[str, ...] = ()


def problems(report: Report) -> tuple[Problem, ...]:
    """Return everything that is not in order, the gravest first, causes before what rests on them."""
    found = [Problem(item.verdict, f"the run: {item.name}", item.reason) for item in about_the_run(report)]
    for scenario in report.scenarios:
        found += _of_scenario(scenario)
    return tuple(sorted(found, key=lambda problem: WORST_FIRST.index(problem.verdict)))


def _of_scenario(scenario: ScenarioResult) -> Iterator[Problem]:
    others: dict[str, Item | ClaimResult] = {
        f"{scenario.failure_mode} {item.name}": item for item in reversed(beside_claims(scenario))
    }
    own: dict[str, Item | ClaimResult] = {f"{claim.id} {claim.text}": claim for claim in scenario.claims}
    alike: dict[str, list[str]] = {}
    for name, judged in (others | own).items():
        if judged.verdict is Verdict.FAIL:
            evidence = judged.evidence if isinstance(judged, ClaimResult) else ()
            places = tuple(f"{scenario.evidence_folder}/{each.file} {each.place}" for each in evidence[:_PLACES_MAX])
            yield Problem(Verdict.FAIL, name, judged.reason, places)
        elif judged.verdict is Verdict.UNKNOWN:
            alike.setdefault(judged.reason, []).append(name)
    for reason, names in alike.items():
        short = [name.partition(" ")[0] if name in own else name for name in names]
        yield Problem(Verdict.UNKNOWN, names[0] if len(names) == 1 else ", ".join(short), reason)


def clocks(scenario: ScenarioResult) -> Iterator[tuple[str, Clock]]:
    """Yield the three clocks by name; none when the scenario has none."""
    if scenario.clocks is not None:
        for name in CLOCKS:
            yield name, getattr(scenario.clocks, name)


def beside_claims(scenario: ScenarioResult) -> tuple[Item, ...]:
    """Return everything else that was judged in a scenario."""
    return (
        *(Item(f"time to {name}", clock.verdict, clock.reason) for name, clock in clocks(scenario)),
        *(Item(f"invariant {each.id}", each.verdict, each.reason) for each in scenario.invariants),
        *(Item(f"fault {fault.injection}", fault.verdict, fault.reason) for fault in scenario.faults),
    )


def about_the_run(report: Report) -> tuple[Item, ...]:
    """Return what is wrong with the run as a whole; nothing if nothing is."""
    items = [Item(f"coverage gap {number}", Verdict.UNKNOWN, gap) for number, gap in enumerate(report.coverage_gaps, 1)]
    items += [Item(f"residue {number}", Verdict.FAIL, line) for number, line in enumerate(report.residue, 1)]
    if report.harness_error is not None:
        items.append(Item("harness", Verdict.UNKNOWN, report.harness_error))
    return tuple(items)


def count(verdicts: Iterable[Verdict]) -> Counter[Verdict]:
    """Count verdicts."""
    return Counter(verdicts)


def claims(report: Report) -> Counter[Verdict]:
    """Count the claims of a run by verdict."""
    return count(claim.verdict for scenario in report.scenarios for claim in scenario.claims)


def seconds(value: float | None) -> str:
    """Write a length as "4.9 s"; nothing measured is a dash."""
    return "-" if value is None else f"{value:.1f} s"


def against_bound(clock: Clock) -> str:
    """Write "4.9 s of 8 s"."""
    bound = "no bound" if clock.bound is None else f"{clock.bound:g} s"
    return f"{seconds(clock.measured)} of {bound}"


def inert(text: str, *, keep: str = "") -> str:
    """Replace control characters: evidence is hostile input, and some readers are terminals."""
    return "".join(each if each.isprintable() or each in keep else "\N{REPLACEMENT CHARACTER}" for each in text)


def is_shortened(report: Report) -> bool:
    """Whether the run's durations were not the document's own."""
    return report.profile != "documented"
