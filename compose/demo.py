"""`demo`: one change of a governed document, from its proposal to offline verification and roll-back, told as it goes.

Nothing here knows the service: every step is a command of `amgf` that anybody could type, run as somebody of the stack
that is up. A step that ends otherwise than it should ends the demo.
"""

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from compose import processes
from compose.gate import DOCUMENT
from compose.up import Home, State

STEP_SECONDS: Final = 30.0
PROPOSER, OWNER, SAFETY, MACHINE, APPLIER, AUDITOR = "ann", "ben", "cleo", "recompute-1", "applier", "auditor"
TIME_LOCK: Final = 75
"""What `amgf apply` ends with while the time-lock of an approved proposal runs."""
CHECK_FAILED: Final = range(11, 25)
"""What `amgf verify bundle` ends with: ten more than the number of the check that failed."""
REFUSED: Final = 1
_ID: Final = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")

Say = Callable[[str], None]


class DemoFailed(Exception):
    """A step did not end as it should; the message says which, and what it said."""


@dataclass
class Demo:
    """A walk through one life.

    Args:
        home: of the stack that is up.
        state: what is known of that stack.
        folder: for the files that the steps write.
        say: told every line.
    """

    home: Home
    state: State
    folder: Path
    say: Say
    steps: int = field(default=0, init=False)

    def run(self) -> None:
        """Walk it.

        Raises:
            DemoFailed: a step did not end as it should.
        """
        target = self.state.moving_target
        before = self._head(target)
        proposal = self._propose(target)
        self._decide(proposal)
        self._verify(proposal)
        self._go_back(target, before)
        self._replay(target)

    def _propose(self, target: str) -> str:
        wanted = {
            **DOCUMENT,
            "tool_grants": [*DOCUMENT["tool_grants"], "browser"],
            "budgets": {"tokens": 1200},
        }
        old, new = self._file("old.json", DOCUMENT), self._file("new.json", wanted)
        told = self._step(
            f"{PROPOSER}, an owner, wants {target} to have one more tool and another budget",
            PROPOSER,
            ["propose", target, "--from", old, "--to", new, "-m", "research needs a browser", "--risk", "high", "-y"],
        )
        return self._id(told)

    def _decide(self, proposal: str) -> None:
        self._simulated(proposal)
        self._step("What it changes, and what two simulations in separate processes say", AUDITOR, ["show", proposal])
        self._step(
            f"{PROPOSER} may not vote on it",
            PROPOSER,
            ["sign", proposal, "approve", "--key", self._key(PROPOSER), "-y"],
            expected=lambda code: code == REFUSED,
        )
        self._approve(proposal, (OWNER, "an owner"), (SAFETY, "of safety"))
        self._step(
            "It waits out its time-lock and is applied by somebody who did not propose it",
            APPLIER,
            ["apply", proposal],
            again=TIME_LOCK,
        )

    def _approve(self, proposal: str, *people: tuple[str, str]) -> None:
        self._step(
            f"{MACHINE} runs the simulation again, elsewhere, and signs only an equal digest",
            MACHINE,
            ["recompute", proposal, "--key", self._key(MACHINE)],
        )
        for name, role in people:
            self._step(
                f"{name}, {role}, looks at it and signs",
                name,
                ["sign", proposal, "approve", "--key", self._key(name), "-m", "read and agreed", "-y"],
            )

    def _verify(self, proposal: str) -> None:
        bundle, altered = self.folder / "bundle.json", self.folder / "altered.json"
        self._step("An auditor fetches the bundle", AUDITOR, ["bundle", proposal, "--out", str(bundle)])
        trust = ["--trust", str(self.home.genesis)]
        self._step(
            "and verifies it offline, against the genesis alone: fourteen checks",
            None,
            ["verify", "bundle", str(bundle), *trust],
        )
        content = bundle.read_bytes()
        changed = content.replace(b"research needs a browser", b"research needs a bowser.", 1)
        if changed == content:
            raise DemoFailed("the bundle does not hold the rationale of its proposal")
        altered.write_bytes(changed)
        self._step(
            "The same with three letters changed is refused, by the number of the check",
            None,
            ["verify", "bundle", str(altered), *trust],
            expected=lambda code: code in CHECK_FAILED,
        )

    def _go_back(self, target: str, version: int) -> None:
        told = self._step(
            f"Something is wrong with it: {PROPOSER} asks for version {version} again",
            PROPOSER,
            ["rollback", target, str(version), "-m", "it spends too much"],
        )
        proposal = self._id(told)
        self._simulated(proposal)
        self._approve(proposal, (OWNER, "an owner"))
        self._step(
            "It has a lower tier, so it applies itself: a new version with the old content",
            AUDITOR,
            ["watch", proposal, "--timeout", "20"],
        )

    def _replay(self, target: str) -> None:
        trust = ["--trust", str(self.home.genesis)]
        self._step(
            "A runtime checks what is current before it runs it",
            AUDITOR,
            ["attest", "check", target, *trust, "--state", str(self.folder / "accepted")],
        )
        log = self.folder / "log.jsonl"
        self._step("A stranger copies the whole log", AUDITOR, ["log", "export", "--out", str(log)])
        self._step("and replays it from its genesis, offline", None, ["log", "replay", str(log), *trust])

    # ------------------------------------------------------------------------------------------------------------------

    def _step(
        self,
        title: str,
        who: str | None,
        arguments: Sequence[str],
        *,
        expected: Callable[[int], bool] = lambda code: code == 0,
        again: int | None = None,
    ) -> str:
        """Run a command of `amgf` and show it; return what it said. `who`: None needs neither address nor key."""
        self.steps += 1
        self.say(f"\n{self.steps:2}. {title}")
        shown = [one.replace(f"{self.home.folder}/", "").replace(f"{self.folder}/", "") for one in arguments]
        self.say(f"    {who or 'offline'}$ amgf {shlex.join(shown)}")
        deadline = time.monotonic() + STEP_SECONDS
        done = self._amgf(who, arguments)
        while again is not None and done.returncode == again and time.monotonic() < deadline:
            done = self._amgf(who, arguments)
        for line in (done.stdout + done.stderr).splitlines():
            self.say(f"      {line}")
        if not expected(done.returncode):
            raise DemoFailed(f"step {self.steps} ended with exit code {done.returncode}")
        return done.stdout + done.stderr

    def _amgf(self, who: str | None, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = processes.plain_environment(PYTHONPATH=str(self.state.service_path))
        if who is not None:
            environment |= {"AMGF_ADDRESS": self.state.address, "AMGF_API_KEY_FILE": str(self.home.api_key(who))}
        try:
            return subprocess.run(
                [sys.executable, "-m", "app.client", *arguments],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=STEP_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"step {self.steps} took longer than {STEP_SECONDS:g} s") from None

    def _simulated(self, proposal: str) -> None:
        watched = self._amgf(AUDITOR, ["watch", proposal, "--until", "simulated", "--timeout", "20"])
        if watched.returncode:
            raise DemoFailed(f"{proposal} was not simulated: {watched.stdout}{watched.stderr}".strip())

    def _head(self, target: str) -> int:
        key = self.home.api_key(AUDITOR).read_text().strip()
        try:
            answer = httpx.get(
                f"{self.state.address}/api/v1/targets/{target}", headers={"X-API-Key": key}, timeout=10, trust_env=False
            )
        except httpx.HTTPError as error:
            raise DemoFailed(f"the stack does not answer at {self.state.address}: {error}") from None
        if answer.status_code != httpx.codes.OK:
            raise DemoFailed(f"{target} cannot be read: {answer.status_code} {answer.text.strip()}")
        return int(answer.json()["version"])

    def _id(self, told: str) -> str:
        found = _ID.search(told)
        if found is None:
            raise DemoFailed(f"step {self.steps} names no proposal")
        return found[0]

    def _key(self, name: str) -> str:
        return str(self.home.signing_key(name))

    def _file(self, name: str, value: Any) -> str:
        path = self.folder / name
        path.write_text(json.dumps(value, indent=2))
        return str(path)
