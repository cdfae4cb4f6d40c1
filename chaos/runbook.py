"""Runbooks as data: the machine-runnable steps of ``runbooks/<slug>.md``, and how one of them is run.

A step is a fenced block of ``bash`` whose info string says which documented line it carries out, when, within which
time and what must come out of it (``runbooks/_template.md`` explains every attribute). It sees the variables of
``ENVIRONMENT`` and nothing else. What cannot be read is refused with file and line, before anything runs.
"""

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

import msgspec
from markdown_it import MarkdownIt
from markdown_it.token import Token

from compose import marks

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "runbooks"
SECTIONS = (
    "Meaning",
    "Impact",
    "Detection",
    "Diagnosis",
    "Mitigation",
    "Recovery",
    "Verification",
    "Escalation",
    "Silencing",
    "Post-incident",
)
OUTPUT_BYTES_MAX = 64 * 1024
TIMEOUT_SECONDS_MAX = 120.0
_SECRET_CHARACTERS_MIN = 12
_SECRET_BYTES_MAX = 4096
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

# Everything a step may refer to. The game day gives these; an operator sets them once.
ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "AMGF_PYTHON": "a Python >= 3.11, for runbooks/probe.py",
        "AMGF_ADDRESS": "what clients use, such as http://127.0.0.1:8080",
        "AMGF_REPLICAS": "names of the replicas, separated by spaces",
        "AMGF_REPLICA_ADDRESSES": "HTTP address of each replica, in the same order, separated by spaces",
        "AMGF_REPLICA_METRICS_ADDRESSES": "metrics address of each replica, in the same order, without /metrics",
        "AMGF_CONTROL": "address of what runs the replicas, such as http://127.0.0.1:9100",
        "AMGF_PROMETHEUS": "address of Prometheus",
        "AMGF_ALERTMANAGER": "address of Alertmanager",
        "AMGF_DATABASE_HOST": "where the database server itself listens",
        "AMGF_DATABASE_PORT": "its port",
        "AMGF_DATABASE_NAME": "the database's name",
        "AMGF_DATABASE_PROXY_PORTS": "ports through which the replicas reach it, separated by spaces",
        "AMGF_DATABASE_START": "a shell command that starts a stopped database server and returns",
        "AMGF_MONITOR_PASSFILE": "password file (PGPASSFILE) of the role firewall_monitor",
        "AMGF_SECRETS": "folder with one file for each secret, such as firewall_app.password",
        "AMGF_API_KEY_FILES": "files with one API key each, separated by spaces",
        "AMGF_TOKEN_KEYS": "the file of keys that sign tokens, which the replicas read",
        "AMGF_TOKEN_ISSUE": "a shell command that prints a new token, as a client would get one",
        "AMGF_REPLICA_LOGS": "the log of each replica, in the same order, separated by spaces",
        "AMGF_POSTGRES_BIN": "folder with psql and pg_isready",
        "AMGF_TOXIPROXY": "address of Toxiproxy's API; only where there is one",
    }
)


class InvalidRunbookError(Exception):
    """A runbook cannot be read; the message says where and why."""


class Kind(StrEnum):
    """``check`` only looks; ``act`` changes something, can be repeated, and says what it did; ``human`` is words."""

    CHECK = "check"
    ACT = "act"
    HUMAN = "human"


class Stage(StrEnum):
    """When a step is run: while the fault lasts, to end it, after it has ended."""

    DURING = "during"
    REPAIR = "repair"
    AFTER = "after"


class FrontMatter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands between the two ``---`` lines."""

    alert: str | None
    failure_mode: str
    severity: str
    response_time: str
    escalation: str
    slo_impact: str
    scenario: str


@dataclass(frozen=True, slots=True)
class Step:
    """One block. ``number`` is the documented step's; 0 belongs to none of them (section Verification)."""

    number: int
    claim: str | None
    kind: Kind
    stages: tuple[Stage, ...]
    command: str
    timeout_seconds: float
    expect_exit: int
    expect: re.Pattern[str] | None
    during_expect: re.Pattern[str] | None  # while the fault lasts: any exit code, and this in the output
    file: str
    line: int
    before: int | None = None  # of the document's steps, the one that this one is taken before: "... first"


@dataclass(frozen=True, slots=True)
class StepResult:
    """What running a step gave. ``outcome``: the word that the expectation's group of that name found."""

    step: Step
    stage: Stage
    ok: bool
    reason: str
    exit_code: int | None  # None: stopped at its time limit
    output: str
    outcome: str | None
    seconds: float

    def as_row(self) -> dict[str, object]:
        """Return the line for ``runbook.jsonl``."""
        return {
            "stage": self.stage.value,
            "step": self.step.number,
            "claim": self.step.claim,
            "kind": self.step.kind.value,
            "command": self.step.command,
            "exit_code": self.exit_code,
            "output": self.output,
            "outcome": self.outcome,
            "seconds": round(self.seconds, 3),
            "ok": self.ok,
            "reason": self.reason,
            "source": f"{self.step.file}:{self.step.line}",
        }


@dataclass(frozen=True, slots=True)
class DiagnosisRow:
    """A row of the table in Diagnosis: the outcomes of some steps, and where the fault then is."""

    outcomes: Mapping[int, str]
    conclusion: str


@dataclass(frozen=True, slots=True)
class Runbook:
    """One runbook."""

    path: Path
    front_matter: FrontMatter
    title: str
    sections: tuple[str, ...]
    recovery: tuple[str, ...]  # the document's steps, as headings, without their numbers
    steps: tuple[Step, ...]
    diagnosis: tuple[DiagnosisRow, ...]

    def at(self, stage: Stage, numbers: frozenset[int] | None = None) -> tuple[Step, ...]:
        """Return the steps a machine runs at ``stage``, in order; ``numbers`` restricts them (0 always stays)."""
        chosen = [
            step
            for step in self.steps
            if stage in step.stages
            and step.kind is not Kind.HUMAN
            and (numbers is None or step.number in numbers or step.number == 0)
        ]
        for step in [one for one in chosen if one.before in {other.number for other in chosen}]:
            chosen.remove(step)
            chosen.insert(next(place for place, other in enumerate(chosen) if other.number == step.before), step)
        return tuple(chosen)

    def localise(self, outcomes: Mapping[int, str | None]) -> str | None:
        """Return what the first fitting row of Diagnosis concludes from the steps' outcomes, or ``None``."""
        for row in self.diagnosis:
            if all(outcomes.get(number) == word for number, word in row.outcomes.items()):
                return row.conclusion
        return None


def load(slug: str, folder: Path = FOLDER) -> Runbook:
    """Read ``<slug>.md``.

    Raises:
        InvalidRunbookError: it is missing or cannot be read.
    """
    path = folder / f"{slug}.md"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as problem:
        raise InvalidRunbookError(f"{path.name}: {problem.strerror}") from problem
    return parse(text, path)


def parse(text: str, path: Path) -> Runbook:
    """Read the text of a runbook; ``path`` is for messages.

    Raises:
        InvalidRunbookError: it has no front matter, or a block's attributes cannot be read.
    """
    pieces = re.split(r"^---\n", text, maxsplit=2, flags=re.MULTILINE)
    if len(pieces) != 3 or pieces[0]:  # noqa: PLR2004 - nothing, front matter, body
        raise InvalidRunbookError(f"{path.name}: it must begin with front matter between two lines of ---")
    try:
        front_matter = msgspec.yaml.decode(pieces[1], type=FrontMatter)
    except msgspec.MsgspecError as problem:
        raise InvalidRunbookError(f"{path.name}: front matter: {problem}") from problem
    tokens = MarkdownIt("commonmark").enable("table").parse(pieces[2])
    before = text[: len(text) - len(pieces[2])].count("\n")
    headings = _headings(tokens)
    return Runbook(
        path=path,
        front_matter=front_matter,
        title=next((words for level, words, _ in headings if level == 1), ""),
        sections=tuple(words for level, words, _ in headings if level == 2),  # noqa: PLR2004 - ## is a section
        recovery=tuple(
            re.sub(r"^\d+\. ", "", words)
            for level, words, section in headings
            if level == 3 and section == "Recovery"  # noqa: PLR2004 - ### is a step
        ),
        steps=tuple(
            _step(token, path, before) for token in tokens if token.type == "fence" and token.info.startswith("bash ")
        ),
        diagnosis=_diagnosis(tokens),
    )


async def run_step(step: Step, *, stage: Stage, environment: Mapping[str, str], cwd: Path = ROOT) -> StepResult:
    """Run one step in a process group of its own, which is gone when this returns, however it returns.

    ``environment``: the variables of ``ENVIRONMENT`` that the step refers to. The output is cut at 64 KiB, and
    what stands in the files of ``AMGF_SECRETS`` is replaced.

    Raises:
        InvalidRunbookError: the step is a person's, or it refers to a variable that is not given.
    """
    if step.kind is Kind.HUMAN:
        raise InvalidRunbookError(f"{step.file}:{step.line}: a person does this step")
    if missing := sorted(variables(step.command) - environment.keys()):
        raise InvalidRunbookError(f"{step.file}:{step.line}: {', '.join(missing)} is not given")
    given = {name: value for name, value in environment.items() if name in ENVIRONMENT}
    here = marks.here()
    owned = here.environment() if here else {}  # so that the sweep finds a step whose harness was killed
    started = time.monotonic()
    output = bytearray()
    exit_code: int | None = None
    async with _own_pipe() as (reader, writing):
        try:
            process = await asyncio.create_subprocess_exec(
                shutil.which("bash", path=_PATH) or "bash",
                *("-eu", "-o", "pipefail", "-c", step.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=asyncio.subprocess.STDOUT,
                env={"PATH": _PATH, "LC_ALL": "C.UTF-8", **owned, **given},
                cwd=cwd,
                start_new_session=True,
            )
        finally:
            os.close(writing)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(step.timeout_seconds):
                    await _drain(reader, output)
                    exit_code = await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    text = _without_secrets(output.decode(errors="replace"), given)
    return _judge(step, stage, exit_code, text, time.monotonic() - started)


def variables(command: str) -> set[str]:
    """Return the ``AMGF_`` variables that a command refers to."""
    return set(re.findall(r"\$\{?(AMGF_[A-Z_]+)", command))


@contextlib.asynccontextmanager
async def _own_pipe() -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """Yield a reader and the descriptor of its writing end, which the caller closes.

    Not the subprocess's own pipe: asyncio would wait for its end, also when a process that left the group holds it.
    """
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", buffering=0)
    )
    try:
        yield reader, writing
    finally:
        transport.close()


async def _drain(reader: asyncio.StreamReader, output: bytearray) -> None:
    """Read to the end; keep the first bytes only, so that a talkative step neither blocks nor fills the memory."""
    while chunk := await reader.read(OUTPUT_BYTES_MAX):
        output.extend(chunk[: OUTPUT_BYTES_MAX - len(output)])


def _judge(step: Step, stage: Stage, exit_code: int | None, output: str, seconds: float) -> StepResult:
    diagnosing = stage is Stage.DURING and step.during_expect is not None
    expected = step.during_expect if diagnosing else step.expect
    found = expected.search(output) if expected is not None else None
    outcome = found.groupdict().get("outcome") if found is not None else None
    if exit_code is None:
        ok, reason = False, f"not done within {step.timeout_seconds:g} s"
    elif expected is not None and found is None:
        ok, reason = False, f"the output does not match {expected.pattern!r} (exit code {exit_code})"
    elif not diagnosing and exit_code != step.expect_exit:
        ok, reason = False, f"exit code {exit_code}, not {step.expect_exit}"
    else:
        ok, reason = True, f"outcome: {outcome}" if outcome else f"exit code {exit_code}"
    return StepResult(
        step=step,
        stage=stage,
        ok=ok,
        reason=reason,
        exit_code=exit_code,
        output=output,
        outcome=outcome,
        seconds=seconds,
    )


def _without_secrets(output: str, environment: Mapping[str, str]) -> str:
    folder = environment.get("AMGF_SECRETS")
    if folder is None or not output:
        return output
    for path in sorted(Path(folder).iterdir()):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if path.is_file() and path.stat().st_size <= _SECRET_BYTES_MAX:
                # A password file of PostgreSQL has the password in the last of five fields.
                for line in path.read_text(encoding="utf-8").splitlines():
                    secret = line.split(":", 4)[-1].strip()
                    if len(secret) >= _SECRET_CHARACTERS_MIN:
                        output = output.replace(secret, "[secret]")
    return output


_DEFAULTS = {
    **dict.fromkeys(("claim", "expect", "during-expect", "stage", "timeout", "before"), ""),
    "expect-exit": "0",
}
_REQUIRED = ("step", "kind")


def _step(token: Token, path: Path, lines_before: int) -> Step:
    line = lines_before + (token.map[0] if token.map else 0) + 1
    where = f"{path.name}:{line}"
    try:
        words = shlex.split(token.info)[1:]
        given = dict(word.split("=", 1) for word in words)
    except ValueError as problem:
        raise InvalidRunbookError(f"{where}: attributes are key=value: {problem}") from problem
    if unknown := sorted(given.keys() - _DEFAULTS.keys() - set(_REQUIRED)):
        raise InvalidRunbookError(f"{where}: unknown attribute {unknown[0]}")
    if missing := [key for key in _REQUIRED if key not in given]:
        raise InvalidRunbookError(f"{where}: no {missing[0]}")
    attributes = _DEFAULTS | given
    try:
        kind = Kind(attributes["kind"])
        stages = tuple(Stage(word) for word in attributes["stage"].split(",") if word)
        expect, during_expect = (
            re.compile(attributes[key]) if attributes[key] else None for key in ("expect", "during-expect")
        )
        number, expect_exit = int(attributes["step"]), int(attributes["expect-exit"])
        before = int(attributes["before"]) if attributes["before"] else None
    except (ValueError, re.error) as problem:
        raise InvalidRunbookError(f"{where}: {problem}") from problem
    timeout_seconds = _seconds(attributes["timeout"], where) if kind is not Kind.HUMAN else 0.0
    if kind is not Kind.HUMAN and not stages:
        raise InvalidRunbookError(f"{where}: no stage")
    if bool(number) != bool(attributes["claim"]):
        raise InvalidRunbookError(f"{where}: a documented step names its claim, and no other does")
    if unknown := sorted(variables(token.content) - ENVIRONMENT.keys()):
        raise InvalidRunbookError(f"{where}: {unknown[0]} is not in the fixed environment")
    return Step(
        number=number,
        claim=attributes["claim"] or None,
        kind=kind,
        stages=stages,
        command=token.content,
        timeout_seconds=timeout_seconds,
        expect_exit=expect_exit,
        expect=expect,
        during_expect=during_expect,
        file=path.name,
        line=line,
        before=before,
    )


def _seconds(text: str, where: str) -> float:
    match = re.fullmatch(r"(\d+)s", text)
    if match is None or not 0 < int(match[1]) <= TIMEOUT_SECONDS_MAX:
        raise InvalidRunbookError(f"{where}: timeout is whole seconds up to {TIMEOUT_SECONDS_MAX:g}, such as 10s")
    return float(match[1])


def _headings(tokens: Sequence[Token]) -> list[tuple[int, str, str]]:
    """Return level, words and section of every heading."""
    section = ""
    headings = []
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            level, words = int(token.tag[1]), tokens[place + 1].content
            if level == 2:  # noqa: PLR2004 - ## is a section
                section = words
            headings.append((level, words, section))
    return headings


def _diagnosis(tokens: Sequence[Token]) -> tuple[DiagnosisRow, ...]:
    """Read the table whose head is "Step N | ... | conclusion"; a cell of "any" says nothing."""
    rows: list[list[str]] = []
    for place, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in {"th_open", "td_open"}:
            rows[-1].append(tokens[place + 1].content)
    numbers: list[int] = []
    found = []
    for cells in rows:
        heads = [re.fullmatch(r"Step (\d+)", cell) for cell in cells[:-1]]
        if heads and all(heads):
            numbers = [int(head[1]) for head in heads if head]
        elif numbers and len(cells) == len(numbers) + 1:
            outcomes = {number: cell for number, cell in zip(numbers, cells[:-1], strict=True) if cell != "any"}
            found.append(DiagnosisRow(outcomes=MappingProxyType(outcomes), conclusion=cells[-1]))
    return tuple(found)
