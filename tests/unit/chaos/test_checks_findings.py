from pathlib import Path

from chaos.checks.findings import all_of, combine, each_injection, failed, passed, unknown
from chaos.evidence import Evidence, Row
from chaos.scenario import Case, Finding, Window
from chaos.verdict import Verdict

ROW = Row(file="history.jsonl", line=3, t=1.0, data={})


def case(*windows: Window) -> Case:
    return Case(Evidence(Path("nowhere")), windows, {})


def judge_by_name(_: Case, window: Window) -> Finding:
    return passed("fine") if window.injection == "good" else failed("broken", [ROW])


def test_the_worst_finding_wins_and_keeps_its_names_reasons_and_evidence() -> None:
    combined = combine([("a", passed("fine")), ("b", unknown("dark")), ("c", failed("broken", [ROW, ROW]))])

    assert combined.verdict is Verdict.FAIL
    assert combined.reason == "c: broken"
    assert [one.place for one in combined.evidence] == ["line 3"]


def test_nothing_combined_is_unknown() -> None:
    assert combine([]).verdict is Verdict.UNKNOWN


def test_a_check_of_each_injection_is_as_good_as_the_worst_of_them() -> None:
    good, bad = Window(injection="good", injected=1.0), Window(injection="bad", injected=1.0)

    assert each_injection(judge_by_name)(case(good)).verdict is Verdict.PASS
    assert each_injection(judge_by_name)(case(good, bad)).verdict is Verdict.FAIL
    assert each_injection(judge_by_name, only={"good"})(case(good, bad)).verdict is Verdict.PASS


def test_an_injection_that_did_not_run_or_was_not_injected_is_unknown() -> None:
    good = Window(injection="good", injected=1.0)

    assert each_injection(judge_by_name)(case()).verdict is Verdict.UNKNOWN
    assert each_injection(judge_by_name)(case(good, Window(injection="good too"))).verdict is Verdict.UNKNOWN
    assert each_injection(judge_by_name, only={"good", "other"})(case(good)).verdict is Verdict.UNKNOWN


def test_all_parts_of_a_check_must_hold() -> None:
    window = Window(injection="good", injected=1.0)

    assert all_of(one=judge_by_name)(case(window), window).verdict is Verdict.PASS
    both = all_of(one=judge_by_name, in_the_dark=lambda _case, _window: unknown("dark"))(case(window), window)
    assert (both.verdict, both.reason) == (Verdict.UNKNOWN, "in the dark: dark")
