"""Runbook steps: how they are read, and that running one keeps its promises."""

import os
from pathlib import Path

import pytest

from chaos import runbook
from chaos.runbook import InvalidRunbookError, Kind, Stage, Step
from tests.eventually import eventually

FRONT = """---
alert: DatabaseConnectionDown
failure_mode: FM01
severity: critical
response_time: 5 minutes
escalation: On-call
slo_impact: High
scenario: chaos/scenarios/x.py
---
# 1. Title
"""
BLOCK = "```bash {info}\n{command}\n```\n"


def parse(info: str, command: str = "true") -> Step:
    text = FRONT + BLOCK.format(info=info, command=command)
    return runbook.parse(text, Path("fm00.md")).steps[0]


def step(command: str, *, timeout: str = "10s", more: str = "") -> Step:
    return parse(f"step=1 claim=FM01.R1 kind=check stage=during,after timeout={timeout} {more}", command)


def test_a_block_becomes_a_step_with_its_place() -> None:
    read = parse("step=2 claim=FM01.R2 kind=act stage=repair timeout=10s expect='a b' expect-exit=3", "echo hello")

    assert (read.number, read.claim, read.kind, read.stages) == (2, "FM01.R2", Kind.ACT, (Stage.REPAIR,))
    assert (read.command, read.timeout_seconds, read.expect_exit) == ("echo hello\n", 10.0, 3)
    assert read.expect is not None
    assert read.expect.pattern == "a b"
    assert (read.file, read.line) == ("fm00.md", FRONT.count("\n") + 1)


@pytest.mark.parametrize(
    ("info", "says"),
    [
        ("step=1 claim=FM01.R1 kind=check stage=after timeout=10s colour=red", "unknown attribute colour"),
        ("claim=FM01.R1 kind=check stage=after timeout=10s", "no step"),
        ("step=1 claim=FM01.R1 stage=after timeout=10s", "no kind"),
        ("step=1 claim=FM01.R1 kind=look stage=after timeout=10s", "look"),
        ("step=1 claim=FM01.R1 kind=check stage=later timeout=10s", "later"),
        ("step=1 claim=FM01.R1 kind=check timeout=10s", "no stage"),
        ("step=1 claim=FM01.R1 kind=check stage=after", "timeout is whole seconds"),
        ("step=1 claim=FM01.R1 kind=check stage=after timeout=1h", "timeout is whole seconds"),
        ("step=1 claim=FM01.R1 kind=check stage=after timeout=0s", "timeout is whole seconds"),
        ("step=1 kind=check stage=after timeout=10s", "names its claim"),
        ("step=0 claim=FM01.R1 kind=check stage=after timeout=10s", "names its claim"),
        ("step=1 claim=FM01.R1 kind=check stage=after timeout=10s expect='('", "unterminated"),
        ("step=1 claim", "key=value"),
    ],
)
def test_a_block_that_cannot_be_read_is_refused_with_its_place(info: str, says: str) -> None:
    with pytest.raises(InvalidRunbookError, match=says) as refused:
        parse(info)

    assert f"fm00.md:{FRONT.count(chr(10)) + 1}" in str(refused.value)


def test_a_variable_outside_the_fixed_environment_is_refused() -> None:
    with pytest.raises(InvalidRunbookError, match="AMGF_SOMETHING is not in the fixed environment"):
        step('echo "$AMGF_SOMETHING"')


def test_a_runbook_without_front_matter_is_refused() -> None:
    with pytest.raises(InvalidRunbookError, match="front matter"):
        runbook.parse("# Title\n", Path("fm00.md"))


def test_a_step_that_comes_first_is_taken_before_the_one_it_names_although_it_stands_behind_it() -> None:
    blocks = "".join(
        f"```bash step={number} claim=FM01.R{number} kind=check stage=after timeout=10s{more}\necho {number}\n```\n\n"
        for number, more in ((1, ""), (2, ""), (3, " before=2"), (3, " before=2"), (4, ""))
    )
    read = runbook.parse(FRONT + blocks, Path("fm00.md"))

    assert [step.number for step in read.at(Stage.AFTER)] == [1, 3, 3, 2, 4]
    assert [step.number for step in read.at(Stage.AFTER, frozenset({3, 4}))] == [3, 3, 4]


def test_the_first_fitting_row_of_the_diagnosis_counts() -> None:
    table = (
        "| Step 2 | Step 3 | The fault is |\n|---|---|---|\n| down | any | A |\n| up | closed | B |\n| up | any | C |\n"
    )
    read = runbook.parse(FRONT + "## Diagnosis\n\n" + table, Path("fm00.md"))

    assert read.localise({2: "down", 3: "closed"}) == "A"
    assert read.localise({2: "up", 3: "closed"}) == "B"
    assert read.localise({2: "up", 3: None}) == "C"
    assert read.localise({2: None}) is None


@pytest.mark.anyio
async def test_a_check_that_finds_what_it_expects_is_ok(tmp_path: Path) -> None:
    result = await runbook.run_step(
        step("echo state: open", more="expect='state: (?P<outcome>open)'"),
        stage=Stage.AFTER,
        environment={},
        cwd=tmp_path,
    )

    assert (result.ok, result.exit_code, result.output, result.outcome) == (True, 0, "state: open\n", "open")
    assert result.as_row()["step"] == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("exit 3", ""),
        ("echo state: shut", "expect='state: open'"),
        ("echo state: open; exit 1", "expect='state: open'"),
        ("false | cat", ""),
        ('echo "$undefined"', ""),
    ],
)
async def test_a_check_that_finds_something_else_is_not_ok(command: str, more: str, tmp_path: Path) -> None:
    result = await runbook.run_step(step(command, more=more), stage=Stage.AFTER, environment={}, cwd=tmp_path)

    assert not result.ok


@pytest.mark.anyio
async def test_while_the_fault_lasts_any_known_outcome_is_ok_whatever_the_exit_code(tmp_path: Path) -> None:
    check = step("echo state: shut; exit 2", more="expect=open during-expect='state: (?P<outcome>open|shut)'")

    during = await runbook.run_step(check, stage=Stage.DURING, environment={}, cwd=tmp_path)
    after = await runbook.run_step(check, stage=Stage.AFTER, environment={}, cwd=tmp_path)

    assert (during.ok, during.outcome, during.exit_code) == (True, "shut", 2)
    assert not after.ok


@pytest.mark.anyio
@pytest.mark.timeout(20)
async def test_a_step_past_its_time_is_ended_with_everything_it_started(tmp_path: Path) -> None:
    result = await runbook.run_step(
        step("sleep 60 & echo $!; wait", timeout="1s"), stage=Stage.AFTER, environment={}, cwd=tmp_path
    )

    assert not result.ok
    assert result.exit_code is None
    assert 0.9 < result.seconds < 8
    await eventually(lambda: not _runs(int(result.output)))


@pytest.mark.anyio
@pytest.mark.timeout(20)
async def test_a_step_that_leaves_a_process_behind_in_its_group_does_not_leave_it_running(tmp_path: Path) -> None:
    result = await runbook.run_step(
        step("sleep 60 >/dev/null 2>&1 & echo $!"), stage=Stage.AFTER, environment={}, cwd=tmp_path
    )

    assert result.ok
    await eventually(lambda: not _runs(int(result.output)))


@pytest.mark.anyio
@pytest.mark.timeout(20)
async def test_a_process_that_escaped_with_the_output_open_cannot_hold_the_harness(tmp_path: Path) -> None:
    result = await runbook.run_step(
        step("setsid sleep 8 & echo done", timeout="1s"), stage=Stage.AFTER, environment={}, cwd=tmp_path
    )

    assert result.seconds < 7


@pytest.mark.anyio
async def test_output_is_cut_at_its_limit_and_does_not_block_the_step(tmp_path: Path) -> None:
    result = await runbook.run_step(
        step("head -c 1000000 /dev/zero | tr '\\0' x"), stage=Stage.AFTER, environment={}, cwd=tmp_path
    )

    assert result.ok
    assert len(result.output) == runbook.OUTPUT_BYTES_MAX


@pytest.mark.anyio
async def test_no_secret_comes_out_whatever_a_step_prints(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "firewall_app.password").write_text("correct-horse-battery")
    (secrets / "pgpass").write_text("*:*:firewall:firewall_monitor:staple-of-the-monitor\n")

    result = await runbook.run_step(
        step('cat "$AMGF_SECRETS"/*'), stage=Stage.AFTER, environment={"AMGF_SECRETS": str(secrets)}, cwd=tmp_path
    )

    assert "correct-horse-battery" not in result.output
    assert "staple-of-the-monitor" not in result.output
    assert "firewall_monitor" in result.output


@pytest.mark.anyio
async def test_a_step_sees_the_fixed_environment_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRAY", "seen")

    result = await runbook.run_step(
        step('echo "$AMGF_ADDRESS ${STRAY:-none} ${OTHER:-none}"'),
        stage=Stage.AFTER,
        environment={"AMGF_ADDRESS": "http://127.0.0.1:1", "OTHER": "x"},
        cwd=tmp_path,
    )

    assert result.output == "http://127.0.0.1:1 none none\n"


@pytest.mark.anyio
async def test_a_step_whose_variable_is_not_given_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRunbookError, match="AMGF_ADDRESS is not given"):
        await runbook.run_step(step('echo "$AMGF_ADDRESS"'), stage=Stage.AFTER, environment={}, cwd=tmp_path)


@pytest.mark.anyio
async def test_a_persons_step_is_never_run(tmp_path: Path) -> None:
    human = parse("step=2 claim=FM01.R2 kind=human", "Call the provider.")

    with pytest.raises(InvalidRunbookError, match="a person does this"):
        await runbook.run_step(human, stage=Stage.AFTER, environment={}, cwd=tmp_path)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
