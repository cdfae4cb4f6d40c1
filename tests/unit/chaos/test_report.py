"""What a run leaves for its readers: valid, self-contained, the same each time, and unmoved by hostile evidence."""

import io
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import msgspec
import pytest
from rich.console import Console

from chaos.evidence import Evidence
from chaos.outcome import judge_run
from chaos.report import closing_line, print_report, write_reports
from chaos.report.junit import junit
from chaos.report.picture import draw
from chaos.report.schema import PATH, InvalidReportError, text, validate
from chaos.report.summary import summary
from chaos.report.timeline import read_timeline
from chaos.result import Clock, Report
from chaos.verdict import Verdict
from tests.unit.chaos.recorded import alert, append, edit, record_run, scenario

SLUG = "fm01_database_connection_failure"
HOSTILE = "</td><script>alert(1)</script> $x$ ]]> \"'` \x1b[31m\x00 [a](javascript:x) {{7*7}}"
OUTPUTS = ("report.json", "junit.xml", "summary.md", "report.html")


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("passed")
    record_run(folder)
    write_reports(folder, judge_run(folder, [scenario()]))
    return folder


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that failed, in whose every free text stands something hostile."""
    folder = tmp_path_factory.mktemp("spoilt")
    record_run(folder)
    evidence = folder / SLUG
    edit(evidence, "runbook.jsonl", lambda row: row | {"ok": False, "output": HOSTILE, "command": HOSTILE})
    edit(evidence, "receipts.jsonl", lambda row: row | {"observation": HOSTILE, "ok": row["injection"] != "proxy_down"})
    append(evidence, "samples/alerts.jsonl", {"t": 127.5, "alerts": [alert(HOSTILE, "active")]})
    write_reports(folder, judge_run(folder, [scenario()]))
    return folder


def report_of(folder: Path) -> Report:
    return msgspec.json.decode((folder / "report.json").read_bytes(), type=Report)


class Page(HTMLParser):
    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.references: list[str] = []
        self.words: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids[str(value)] += 1
            if name in {"href", "src", "xlink:href", "action", "data"}:
                self.references.append(str(value))
            assert not name.startswith("on"), f"{tag} {name}"

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page(passed: Path) -> Page:
    return Page((passed / "report.html").read_text())


# Schema.


def test_the_schema_in_the_repository_is_the_structs() -> None:
    assert PATH.read_text() == text(), "run: python -m chaos.report.schema (and raise SCHEMA_VERSION)"


def test_every_object_of_the_schema_is_closed_and_complete() -> None:
    for name, definition in json.loads(text())["$defs"].items():
        if definition.get("type") == "object":
            assert definition["additionalProperties"] is False, name
            assert definition["required"] == list(definition["properties"]), name


def test_the_report_has_the_fields_its_readers_rely_on(passed: Path) -> None:
    report = json.loads((passed / "report.json").read_bytes())
    (one,) = report["scenarios"]

    assert {"schema_version", "run_id", "profile", "host", "verdict", "exit_code", "scenarios"} <= set(report)
    assert (one["failure_mode"], one["slug"], one["verdict"]) == ("FM01", SLUG, "pass")
    assert one["clocks"]["detect"]["measured"] == 5.0
    assert one["clocks"]["detect"]["bound"] == 8.0
    assert [each["proves"] for each in one["faults"][0]["receipts"]] == ["bite", "undo"]
    assert {"id", "text", "verdict", "reason", "evidence"} == set(one["claims"][0])
    assert {"file", "place"} == set(one["claims"][0]["evidence"][0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "extra"),
        ({"verdict": "green"}, "green"),
        ({"schema_version": "0.9"}, "1.0"),
        ({"exit_code": -1}, "minimum"),
    ],
)
def test_a_report_that_departs_from_the_schema_is_refused(
    passed: Path, change: dict[str, object], message: str
) -> None:
    report = json.loads((passed / "report.json").read_bytes()) | change

    with pytest.raises(InvalidReportError, match=message):
        validate(json.dumps(report).encode())


def test_an_invalid_report_writes_nothing(passed: Path, tmp_path: Path) -> None:
    wrong = msgspec.structs.replace(report_of(passed), schema_version="0.9")

    with pytest.raises(InvalidReportError):
        write_reports(tmp_path, wrong)

    assert list(tmp_path.iterdir()) == []


# All of them.


def test_judging_a_stored_run_again_writes_the_same_bytes(spoilt: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(spoilt, tmp_path / "moved"))
    for name in OUTPUTS:
        (again / name).unlink()

    write_reports(again, judge_run(again, [scenario()]))

    for name in OUTPUTS:
        assert (again / name).read_bytes() == (spoilt / name).read_bytes(), name


def test_a_run_that_left_nothing_behind_is_still_reported(tmp_path: Path) -> None:
    record_run(tmp_path)
    shutil.rmtree(tmp_path / SLUG)

    report = judge_run(tmp_path, [scenario()])
    write_reports(tmp_path, report)

    assert report.exit_code == 70
    assert "the evidence cannot be read" in (tmp_path / "report.html").read_text()


def test_damaged_files_leave_gaps_in_the_page_and_no_error(passed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(passed, tmp_path / "damaged"))
    for file in ("history", "samples/health", "samples/alerts", "samples/metrics", "notifications", "runbook"):
        (folder / SLUG / f"{file}.jsonl").write_text('{"t": 1.0, "alerts": 7, "type": "ok", "series": []}\nnonsense\n')

    write_reports(folder, judge_run(folder, [scenario()]))

    assert "<svg" in (folder / "report.html").read_text()


# HTML.


def test_the_page_needs_nothing_from_outside(passed: Path, page: Page) -> None:
    content = (passed / "report.html").read_text()

    assert page.tags["script"] == page.tags["link"] == page.tags["img"] == page.tags["iframe"] == 0
    assert not re.search(r"@import|url\((?!#)", content)
    for reference in page.references:
        assert not re.match(r"[a-z]+:|//", reference), reference


def test_every_link_of_the_page_leads_somewhere(passed: Path, page: Page) -> None:
    for reference in page.references:
        if reference.startswith("#"):
            assert page.ids[reference[1:]] == 1, reference
        else:
            assert (passed / unquote(reference)).is_file(), reference


def test_ids_are_unique_although_pictures_are_inline(page: Page) -> None:
    assert [name for name, number in page.ids.items() if number > 1] == []
    assert page.tags["svg"] == 3  # the whole scenario and each injection closer


def test_the_page_says_loudly_that_durations_were_shortened(page: Page) -> None:
    assert "Durations were shortened: profile fast." in page.text


def test_the_heat_map_shows_all_sixteen_modes_and_what_is_not_built(page: Page) -> None:
    for number in range(1, 17):
        assert f"FM{number:02}" in page.text
    assert "4/4 pass" in page.text
    assert "0/4 not built" in page.text or "0/4 not run" in page.text


@pytest.mark.parametrize(
    "words",
    [
        "PASS exit code 0",
        "13 of 188",
        "5.0 s of 8 s",
        "acknowledged proposals are stored",
        "No acknowledged proposal is lost.",
        "connect to 127.0.0.1:15431: refused (111)",
        "pg_isready -h 127.0.0.1 -p 5432",
        "only version 1 is mounted",
        "./justw gameday fm01 --seed 20261123",
        "python -m chaos judge runs/20261123T093000Z-ab12",
        "error share during faults",
    ],
)
def test_the_page_tells(page: Page, words: str) -> None:
    assert words in page.text


def test_control_characters_of_a_log_do_not_reach_any_output(spoilt: Path) -> None:
    for name in OUTPUTS:
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", (spoilt / name).read_text()), name


def test_hostile_evidence_stays_text(spoilt: Path) -> None:
    content = (spoilt / "report.html").read_text()
    page = Page(content)

    assert page.tags["script"] == 0
    assert "<script>alert(1)</script>" in page.text
    assert "{{7*7}}" in page.text
    assert not [reference for reference in page.references if reference.startswith("javascript")]


# The picture.


def test_the_picture_is_the_same_each_time_and_carries_no_date(passed: Path) -> None:
    timeline = read_timeline(Evidence(passed / SLUG), report_of(passed).scenarios[0])

    first, second = draw(timeline, name="one"), draw(timeline, name="one")

    assert first == second
    assert not re.search(r"20\d\d-\d\d-\d\d", first)
    assert "#0101" not in first, "a colour of ours reached the page unresolved"


def test_the_picture_shows_fault_alert_and_recovery_on_one_axis(passed: Path) -> None:
    timeline = read_timeline(Evidence(passed / SLUG), report_of(passed).scenarios[0])

    picture = draw(timeline, name="one")

    assert [mark.kind for mark in sorted(timeline.marks, key=lambda mark: mark.t)][:6] == [
        "injected",
        "bitten",
        "mitigated",
        "detected",
        "undone",
        "recovered",
    ]
    assert [bar.state for bar in timeline.alerts["DatabaseConnectionDown"]] == ["active", "active"]
    assert [bar.state for bar in timeline.readiness["replica-1"]][:3] == ["ready", "not ready", "ready"]
    assert [bar.state for bar in timeline.circuits["replica-1"]][:4] == ["closed", "open", "half-open", "closed"]
    assert [status for _, _, status in timeline.notifications] == ["firing", "resolved"] * 2
    assert len(timeline.attempts["replica-1"]) > 8
    for words in ("detected +5.0 s", "recovered +9.2 s", "HighServerErrorRate", "connection", "latency"):
        assert words in picture


# JUnit.


def suites(written: bytes) -> ET.Element:
    return ET.fromstring(written)  # noqa: S314 - our own output


def test_junit_has_a_suite_for_the_mode_and_a_case_for_each_claim(passed: Path) -> None:
    suite = suites((passed / "junit.xml").read_bytes())[0]
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}

    assert suite.get("name") == "FM01 Database Connection Failure"
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("13", "0", "0")
    assert float(suite.get("time", "0")) == pytest.approx(128.0)
    assert sum(float(case.get("time", "0")) for case in suite.iter("testcase")) == pytest.approx(128.0, abs=0.1)
    assert properties["time_to_detect_seconds"] == "5.0"
    assert properties["time_to_detect_bound_seconds"] == "8.0"
    assert properties["evidence"] == SLUG
    assert properties["seed"] == "20261123"


def test_junit_tells_failed_unknown_and_skipped_apart(passed: Path) -> None:
    report = report_of(passed)
    claims = [
        msgspec.structs.replace(claim, verdict=verdict, reason=HOSTILE)
        for claim, verdict in zip(report.scenarios[0].claims, Verdict, strict=False)
    ]
    one = msgspec.structs.replace(report.scenarios[0], claims=tuple(claims))

    suite = suites(junit(msgspec.structs.replace(report, scenarios=(one,))))[0]

    children = [[child.tag for child in case if child.tag != "system-out"] for case in suite.iter("testcase")]
    assert children == [[], ["failure"], ["error"], ["skipped"], ["skipped"]]


def test_a_red_clock_does_not_hide_behind_green_claims(passed: Path) -> None:
    report = with_slow_detection(report_of(passed))

    second = suites(junit(report))[1]

    assert second.get("failures") == "1"
    assert closing_line(report) == "13 passed, 1 failed, 0 skipped"


def with_slow_detection(report: Report) -> Report:
    one = report.scenarios[0]
    slow = Clock(9.0, 8.0, Verdict.FAIL, "too slow")
    assert one.clocks is not None
    clocks = msgspec.structs.replace(one.clocks, detect=slow)
    one = msgspec.structs.replace(one, clocks=clocks, verdict=Verdict.FAIL)
    return msgspec.structs.replace(report, scenarios=(one,), verdict=Verdict.FAIL, exit_code=1)


# Summary and terminal.


def test_the_summary_counts_and_lists_failures_first(spoilt: Path) -> None:
    lines = (spoilt / "summary.md").read_text().splitlines()

    assert lines[0].startswith("# Chaos: fail (exit 3)")
    assert lines.index("## What is wrong") < lines.index("|---|---|---|---|---|---|---|")
    assert sum(line.startswith("| FM") for line in lines) == 16


def test_the_summary_says_n_of_188_on_this_host_and_shortened(passed: Path) -> None:
    content = summary(report_of(passed))

    assert "**13/188 claims verified on this host**" in content
    assert "**shortened** (profile `fast`)" in content


def test_hostile_evidence_is_inert_in_the_summary(spoilt: Path) -> None:
    content = (spoilt / "summary.md").read_text()

    assert "<script>" not in content
    assert not re.search(r"(?<!\\)\[a\]\(", content)
    assert "\x1b" not in content
    assert "\x00" not in content


def printed(report: Report) -> str:
    output = io.StringIO()
    print_report(report, Console(file=output, width=100, force_terminal=False), location="runs/latest/report.html")
    return output.getvalue()


def test_the_very_last_line_counts_claims(passed: Path) -> None:
    assert printed(report_of(passed)).splitlines()[-1] == "13 passed, 0 failed, 0 skipped"


def test_unknown_counts_as_failed_in_the_last_line_and_apart_above_it(passed: Path) -> None:
    report = report_of(passed)
    claims = list(report.scenarios[0].claims)
    claims[0] = msgspec.structs.replace(claims[0], verdict=Verdict.UNKNOWN, reason="no data")
    claims[1] = msgspec.structs.replace(claims[1], verdict=Verdict.FAIL, reason="never")
    claims[2] = msgspec.structs.replace(claims[2], verdict=Verdict.WAIVED, reason="a person's work")
    one = msgspec.structs.replace(report.scenarios[0], claims=tuple(claims), verdict=Verdict.FAIL)

    lines = printed(msgspec.structs.replace(report, scenarios=(one,), exit_code=1)).splitlines()

    assert lines[-1] == "10 passed, 2 failed, 1 skipped"
    assert "claims: 10 passed, 1 failed, 1 unknown, 1 skipped (1 of them waived)" in lines
    assert any("FM01.D2" in line for line in lines)


@pytest.mark.parametrize("facts", [{"residue": ("cgroup chaos-1",)}, {"harness_error": "OSError"}, {}])
def test_the_last_line_never_says_0_failed_of_a_run_that_is_no_pass(passed: Path, facts: dict[str, object]) -> None:
    report = msgspec.structs.replace(report_of(passed), exit_code=70, **facts)

    assert closing_line(report) == "13 passed, 1 failed, 0 skipped"


def test_escape_sequences_of_a_log_do_not_reach_the_terminal(spoilt: Path) -> None:
    assert "\x1b" not in printed(report_of(spoilt))
