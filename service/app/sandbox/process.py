"""One worker process as its owner sees it: started, asked, killed.

Every way in which it can fail ends in `WorkerLost` with a reason, and with the process killed: a worker that failed
once is never asked again.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import app
from app.sandbox import frames
from app.sandbox.frames import Reason
from app.sandbox.limits import MEMORY_EXIT

COMMAND: Final = (sys.executable, "-P", "-s", "-m", "app.sandbox.worker")
START_SECONDS: Final = 20
REAP_SECONDS: Final = 5


class WorkerLost(Exception):
    """The worker is gone, or was killed for what it did."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason: Reason = reason
        self.detail = detail


class WorkerProcess:
    """A worker; make it with `start`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._killed = False
        self.answered = 0

    @classmethod
    async def start(cls, seed: int, *, command: Sequence[str] = COMMAND) -> Self:
        """Start a worker with its own hash seed and an environment that holds nothing else of ours.

        Raises:
            WorkerLost: it cannot be started or does not get ready in time.
        """
        environment = {
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": str(seed),
            "PYTHONPATH": str(Path(app.__file__).parent.parent),
        }
        spawned = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment,
                cwd="/",
                start_new_session=True,  # the terminal's ^C is for us, not for it
            )
        )
        try:
            # uvloop forgets a process whose start is cancelled half-way: the start itself never is.
            worker = cls(await asyncio.shield(spawned))
        except OSError as error:
            raise WorkerLost("unavailable", type(error).__name__) from None
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                worker = cls(await spawned)
                worker.kill()
                await worker.ended()
            raise
        try:
            await worker._greet()
        except BaseException:
            # Also when cancelled: whoever closes the pool must not leave a process that nobody waits for.
            worker.kill()
            await worker.ended()
            raise
        return worker

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it was neither killed nor seen to end."""
        return self._process.returncode is None and not self._killed

    async def ask(self, request: frames.Request, *, deadline_seconds: float) -> frames.Answer:
        """Return the worker's answer.

        Raises:
            WorkerLost: there is none; the worker is dead.
        """
        answer = await self._exchange(frames.encode(request), deadline_seconds)
        self.answered += 1
        if isinstance(answer, frames.Refused) and answer.reason == "memory-limit":
            self.kill()
        return answer

    def kill(self) -> None:
        """End it at once."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> int:
        """Wait until it is gone and reaped; return its exit code, negative for a signal."""
        return await self._process.wait()

    async def _greet(self) -> None:
        if not isinstance(await self._exchange(b"", START_SECONDS), frames.Ready):
            raise WorkerLost("protocol")

    async def _exchange(self, frame: bytes, seconds: float) -> frames.Answer:
        try:
            async with asyncio.timeout(seconds):
                return await self._talk(frame)
        except TimeoutError:
            self.kill()
            raise WorkerLost("deadline") from None
        except frames.Rubbish as error:
            self.kill()
            raise WorkerLost("protocol", str(error)) from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._loss() from None
        except BaseException:
            # Cancelled with the answer under way: whoever asked next would read it.
            self.kill()
            raise

    async def _talk(self, frame: bytes) -> frames.Answer:
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None:
            raise frames.Rubbish("no pipes")
        if frame:
            requests.write(frame)
            await requests.drain()
        header = await answers.readexactly(frames.HEADER.size)
        length = frames.length_of(header, bytes_max=frames.ANSWER_BYTES_MAX)
        return frames.decode_answer(await answers.readexactly(length))

    async def _loss(self) -> WorkerLost:
        try:
            async with asyncio.timeout(REAP_SECONDS):
                code = await self._process.wait()
        except TimeoutError:
            self.kill()
            return WorkerLost("protocol", "closed its output")
        if code == -signal.SIGXCPU:
            return WorkerLost("cpu-limit")
        return WorkerLost("memory-limit" if code == MEMORY_EXIT else "crashed", f"exit code {code}")
