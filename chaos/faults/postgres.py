"""Faults of the database server itself: stopped, frozen, or rid of the sessions it had. FM01."""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import psycopg

from chaos.faults.base import FaultFailed, Recorded, look, stack_errors_as_ours, until, within
from chaos.faults.vantage import Address, Reached, ask
from chaos.scenario import Observation
from compose.postgres_template import APPLICATION, MONITOR, SUPERUSER

if TYPE_CHECKING:
    from compose.stack import Stack

INJECT_DEADLINE_SECONDS = 20.0
LOOK_DEADLINE_SECONDS = 10.0
UNDO_DEADLINE_SECONDS = 60.0  # crash recovery included
_FRESH_SECONDS = 4.0
_END_SESSIONS = """
    SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity
    WHERE usename = %s AND backend_type = 'client backend'
"""
_OLDEST = """
    SELECT count(*), coalesce(extract(epoch FROM max(clock_timestamp() - backend_start)), 0)::float8
    FROM pg_stat_activity WHERE usename = %s AND backend_type = 'client backend'
"""


@dataclass(frozen=True, slots=True)
class PostgresStopped(Recorded):
    """The server is stopped; ``immediate`` ends it without a checkpoint, so that its next start recovers."""

    kind: ClassVar[str] = "postgres_stopped"
    needs: ClassVar[frozenset[str]] = frozenset()

    mode: Literal["immediate", "fast", "smart"] = "immediate"

    async def inject(self, stack: "Stack") -> None:
        """Stop the server."""
        async with within(INJECT_DEADLINE_SECONDS, "postgres_stopped: inject"):
            with stack_errors_as_ours():
                await stack.postgres.stop(self.mode)

    async def bites(self, stack: "Stack") -> Observation:
        """Nobody listens at the server's own port."""

        async def refused() -> Observation:
            reply = await ask("database", _direct(stack))
            return Observation(ok=reply.reached is Reached.REFUSED, text=f"direct {_direct(stack)}: {reply}")

        return await look("postgres_stopped: bites", LOOK_DEADLINE_SECONDS, refused)

    async def undo(self, stack: "Stack") -> None:
        """Start the server unless it runs, and wait until it answers queries (a runbook may have started it)."""
        async with within(UNDO_DEADLINE_SECONDS, "postgres_stopped: undo"):
            if stack.postgres.pid is None:
                with stack_errors_as_ours():
                    await stack.postgres.start()
            await until(stack.postgres.is_accepting)

    async def is_gone(self, stack: "Stack") -> Observation:
        """The server answers our own query, and says that it has recovered."""
        return await look("postgres_stopped: is_gone", LOOK_DEADLINE_SECONDS, lambda: _has_recovered(stack))


@dataclass(frozen=True, slots=True)
class PostgresPaused(Recorded):
    """The postmaster is frozen: open sessions go on, new connections are accepted by the kernel and stay silent."""

    kind: ClassVar[str] = "postgres_paused"
    needs: ClassVar[frozenset[str]] = frozenset()

    async def inject(self, stack: "Stack") -> None:
        """Send SIGSTOP to the postmaster and wait until it is stopped."""
        async with within(INJECT_DEADLINE_SECONDS, "postgres_paused: inject"):
            pid = stack.postgres.pid
            if pid is None:
                raise FaultFailed("PostgreSQL does not run, so it cannot be paused")
            await _signal_until(pid, signal.SIGSTOP, stopped=True)

    async def bites(self, stack: "Stack") -> Observation:
        """The server's own port accepts and stays silent; the kernel calls the postmaster stopped."""

        async def frozen() -> Observation:
            reply = await ask("database", _direct(stack))
            state = _state(stack.postgres.pid)
            return Observation(
                ok=reply.reached is Reached.SILENT and state == "T",
                text=f"direct {_direct(stack)}: {reply}; postmaster in state {state or 'gone'}",
            )

        return await look("postgres_paused: bites", LOOK_DEADLINE_SECONDS, frozen)

    async def undo(self, stack: "Stack") -> None:
        """Send SIGCONT to the postmaster, if there is one: a frozen process ignores every orderly stop."""
        async with within(UNDO_DEADLINE_SECONDS, "postgres_paused: undo"):
            pid = stack.postgres.pid
            if pid is not None:
                await _signal_until(pid, signal.SIGCONT, stopped=False)

    async def is_gone(self, stack: "Stack") -> Observation:
        """The server answers our own query."""
        return await look("postgres_paused: is_gone", LOOK_DEADLINE_SECONDS, lambda: _has_recovered(stack))


@dataclass(frozen=True, slots=True)
class SessionsEnded(Recorded):
    """Every session of the application is ended by the server, at once; new ones are welcome. An act, not a state."""

    kind: ClassVar[str] = "sessions_ended"
    needs: ClassVar[frozenset[str]] = frozenset()

    async def inject(self, stack: "Stack") -> None:
        """End them, each waited for."""
        async with within(INJECT_DEADLINE_SECONDS, "sessions_ended: inject"):
            try:
                connection = await psycopg.AsyncConnection.connect(
                    stack.postgres.dsn(SUPERUSER), autocommit=True, connect_timeout=2
                )
                async with connection:
                    await connection.execute(_END_SESSIONS, (int(LOOK_DEADLINE_SECONDS * 1000), APPLICATION))
            except psycopg.Error as error:
                raise FaultFailed(f"sessions could not be ended: {type(error).__name__}") from error

    async def bites(self, stack: "Stack") -> Observation:
        """No session of the application is older than a few seconds; ask soon after ``inject``."""

        async def ended() -> Observation:
            connection = await psycopg.AsyncConnection.connect(stack.postgres.dsn(MONITOR), connect_timeout=2)
            async with connection:
                count, oldest = await (await connection.execute(_OLDEST, (APPLICATION,))).fetchone() or (0, 0.0)
            told = f"{count} sessions of {APPLICATION}, the oldest begun {oldest:.1f} s ago"
            return Observation(ok=oldest < _FRESH_SECONDS, text=told)

        return await look("sessions_ended: bites", LOOK_DEADLINE_SECONDS, ended)

    async def undo(self, stack: "Stack") -> None:
        """Take nothing back: what was ended stays ended."""

    async def is_gone(self, stack: "Stack") -> Observation:
        """The server answers our own query."""
        return await look("sessions_ended: is_gone", LOOK_DEADLINE_SECONDS, lambda: _has_recovered(stack))


async def _has_recovered(stack: "Stack") -> Observation:
    try:
        connection = await psycopg.AsyncConnection.connect(stack.postgres.dsn(MONITOR), connect_timeout=2)
        async with connection:
            row = await (await connection.execute("SELECT pg_is_in_recovery()")).fetchone()
    except psycopg.Error as error:
        return Observation(ok=False, text=f"direct {_direct(stack)}: {type(error).__name__}")
    recovering = row is None or row[0]
    said = "answers a query, still in recovery" if recovering else "answers a query, not in recovery"
    return Observation(ok=not recovering, text=f"direct {_direct(stack)}: {said}")


def _direct(stack: "Stack") -> Address:
    return Address(host="127.0.0.1", port=stack.postgres.port)


async def _signal_until(pid: int, number: signal.Signals, *, stopped: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)

    async def settled() -> bool:
        state = _state(pid)
        return state is None or (state == "T") is stopped

    await until(settled)


def _state(pid: int | None) -> str | None:
    """Return the kernel's letter for the state of a process (``T``: stopped), or ``None`` when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None
