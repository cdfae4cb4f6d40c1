"""``junit.xml``: a suite for each failure mode with a test case for each claim, as CI systems read it.

``<failure>`` fail, ``<error>`` unknown, ``<skipped>`` skipped or waived. Clocks, invariants and faults stand in a
second suite of the mode, so that a red clock cannot hide behind green claims. A scenario has one duration; its
cases share it evenly, so that the sums CI shows are the real ones.
"""

import re
from collections.abc import Iterable
from xml.etree import ElementTree as ET

from chaos.report.tally import Item, about_the_run, beside_claims, clocks
from chaos.result import ClaimResult, Report, ScenarioResult
from chaos.verdict import Verdict

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAG = {
    Verdict.FAIL: "failure",
    Verdict.UNKNOWN: "error",
    Verdict.SKIPPED: "skipped",
    Verdict.WAIVED: "skipped",
}


def junit(report: Report) -> bytes:
    """Return the document, UTF-8."""
    suites = ET.Element("testsuites", name=f"chaos {report.run_id}")
    for scenario in report.scenarios:
        name = f"{scenario.failure_mode} {scenario.title}"
        items = [_of_claim(claim) for claim in scenario.claims]
        suite = _suite(suites, name, scenario.slug, items, duration=scenario.duration, started_at=scenario.started_at)
        _properties(suite, report, scenario)
        for case, claim in zip(suite.iter("testcase"), scenario.claims, strict=True):
            if claim.evidence:
                places = (f"{scenario.evidence_folder}/{each.file} {each.place}" for each in claim.evidence)
                _text(case, "system-out", "\n".join(places))
        _suite(suites, f"{name}: clocks, invariants, faults", scenario.slug, beside_claims(scenario))
    if items_of_run := about_the_run(report):
        _suite(suites, "run", "run", items_of_run, started_at=report.started_at)
    _sum(suites)
    ET.indent(suites)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode").encode() + b"\n"


def _of_claim(claim: ClaimResult) -> Item:
    return Item(f"{claim.id} {claim.text}", claim.verdict, claim.reason)


def _suite(
    suites: ET.Element, name: str, slug: str, items: Iterable[Item], *, duration: float = 0.0, started_at: str = ""
) -> ET.Element:
    items = tuple(items)
    tags = [_TAG.get(item.verdict) for item in items]
    suite = ET.SubElement(
        suites,
        "testsuite",
        name=_clean(name),
        tests=str(len(items)),
        failures=str(tags.count("failure")),
        errors=str(tags.count("error")),
        skipped=str(tags.count("skipped")),
        time=f"{duration:.3f}",
    )
    if started_at:
        suite.set("timestamp", started_at)
    for item, tag in zip(items, tags, strict=True):
        time = f"{duration / len(items):.3f}"
        case = ET.SubElement(suite, "testcase", name=_clean(item.name), classname=slug, time=time)
        if tag is not None:
            mark = ET.SubElement(case, tag, message=_clean(item.reason))
            if tag != "skipped":
                mark.set("type", item.verdict.value)
    return suite


def _properties(suite: ET.Element, report: Report, scenario: ScenarioResult) -> None:
    properties = ET.Element("properties")
    values: dict[str, object] = {
        "run_id": report.run_id,
        "profile": report.profile,
        "seed": scenario.seed,
        "isolation": scenario.isolation,
        "verdict": scenario.verdict.value,
        "evidence": scenario.evidence_folder,
    }
    for name, clock in clocks(scenario):
        values[f"time_to_{name}_seconds"] = "" if clock.measured is None else clock.measured
        values[f"time_to_{name}_bound_seconds"] = "" if clock.bound is None else clock.bound
    for name, value in values.items():
        ET.SubElement(properties, "property", name=name, value=_clean(str(value)))
    suite.insert(0, properties)


def _sum(suites: ET.Element) -> None:
    for name in ("tests", "failures", "errors", "skipped"):
        suites.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    suites.set("time", f"{sum(float(suite.get('time', '0')) for suite in suites):.3f}")


def _text(parent: ET.Element, tag: str, content: str) -> None:
    ET.SubElement(parent, tag).text = _clean(content)


def _clean(text: str) -> str:
    """Replace what XML 1.0 cannot hold: evidence is hostile input."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
