"""The sequencer: gives committed events their numbers, signs what stands, refuses to fork what was published (FM15).

Runs in every replica; one of them holds the advisory lock and numbers, in batches, each a short transaction of its own.
The lock belongs to a session that dies with its holder, and every batch checks the holder's token, so two replicas that
both believe to be the sequencer cannot both write. All of it is read anew from the database whenever a session is.

Once a second every replica looks (`log_watch`); only when nothing is wrong does the holder sign. The high-water mark is
on the disk before the checkpoint is served. When something is wrong, the log is in quarantine: reads go on, nothing is
numbered, signed or applied, until `python -m app.workflow.log_recovery` was run.
"""

import asyncio
from typing import Final

import psycopg

from app import log as logging
from app import metrics
from app.core.log.merkle import CompactRange
from app.errors import DatabaseUnavailable
from app.resilience.deadline import Clock
from app.security.log_key import LogKey
from app.settings import LogPolicy
from app.storage import log, log_quarantine
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.log import FencedOff, LogChanged
from app.storage.log_quarantine import Quarantine
from app.storage.log_tree import LogDamaged
from app.storage.session import Session
from app.storage.watermark import Watermark, WatermarkUnreadable, WatermarkUnwritable
from app.workflow.log_state import LogState
from app.workflow.log_watch import WORK_SECONDS, Lead, LogWatch, Look

EXPECTED: Final = (psycopg.Error, DatabaseUnavailable, FencedOff, LogChanged, LogDamaged)
"""What ends a session of the log in the ordinary course of outages and changes of the sequencer."""


class Sequencer:
    """One replica's part in keeping the log."""

    def __init__(self, database: Database, policy: LogPolicy, state: LogState, *, replica: str, clock: Clock) -> None:
        self._database = database
        self._policy = policy
        self._state = state
        self._replica = replica
        self._clock = clock
        self._key = LogKey(policy.seed, origin=policy.origin)
        self._watermark = Watermark(policy.watermark, origin=policy.origin)
        self._watch = LogWatch(self._watermark, self._key)

    async def run(self) -> None:
        """Follow or number until cancelled; survives every loss of the database."""
        while True:
            if self._database.is_up:
                try:
                    async with self._database.session("log") as session:
                        await self._serve(session)
                except EXPECTED as error:
                    metrics.LOG_SESSIONS_ENDED.inc()
                    logging.get().warning("log_session_ended", error=type(error).__name__)
                except Exception as error:  # noqa: BLE001 - reads go on, whatever is wrong with the log
                    metrics.LOG_SESSIONS_ENDED.inc()
                    logging.get().error("log_session_failed", error=type(error).__name__)
            self._state.doubt()
            await asyncio.sleep(self._policy.batch_seconds)

    async def _serve(self, session: Session) -> None:
        """Look, sign and number on one session, until it is lost."""
        lead: Lead | None = None
        while True:
            next_look_at = self._clock() + self._policy.checkpoint_seconds
            lead = await self._tend(session, lead)
            while self._clock() < next_look_at:
                is_full = lead is not None and await self._number(session, lead)
                if not is_full:
                    await asyncio.sleep(self._policy.batch_seconds)

    async def _tend(self, session: Session, lead: Lead | None) -> Lead | None:
        """Look; sign if all is well; return the lead that this replica has now."""
        shown = self._state.published_size
        look = await self._watch.look(session, lead)
        self._state.measured(look.backlog)
        metrics.LOG_SIZE.set(look.size)
        if look.marked is not None and look.marked_note is not None:
            if look.marked.size < shown:  # marked before it was shown: only a recovery moves the mark back
                self._state.forget()
            self._state.confirmed(look.marked_note, size=look.marked.size)
        if look.quarantine is not None:
            await self._quarantine(session, look, look.quarantine)
            return None
        if lead is not None:
            await self._publish(session, lead, look)
            return lead
        if look.newest is not None and (look.marked is None or look.marked.size < look.newest.size):
            await self._remember(look.newest.note)
        return await self._take_lead(session)

    async def _take_lead(self, session: Session) -> Lead | None:
        """Take the lead if nobody has it."""

        async def work(connection: Connection) -> Lead | None:
            if not await log.try_lock(connection):
                return None
            token = await log.take_token(connection, holder=self._replica)
            return Lead(token, await log.tree(connection))

        lead = await session.transact("log_lead", work, seconds=WORK_SECONDS)
        if lead is None:
            self._state.follow()
        else:
            logging.get().info("log_sequencing", token=lead.token, size=lead.tree.size)
            self._state.sequence()
        return lead

    async def _number(self, session: Session, lead: Lead) -> bool:
        """Number one batch; return whether more may wait.

        Raises:
            FencedOff, LogChanged: somebody else numbers, the log is in quarantine, or it is another log.
        """

        async def work(connection: Connection) -> CompactRange:
            size = await log.require_token(connection, lead.token)
            if size != lead.tree.size or await log_quarantine.find(connection) is not None:
                raise LogChanged
            waiting = await log.queued(connection, size=size, limit=self._policy.batch_entries_max)
            return await log.append(connection, lead.tree, waiting) if waiting else lead.tree

        before = lead.tree.size
        lead.tree = await session.transact("log_number", work, seconds=WORK_SECONDS)
        numbered = lead.tree.size - before
        metrics.LOG_ENTRIES.inc(numbered)
        # The first batch is the genesis alone.
        return numbered == self._policy.batch_entries_max or (before == 0 and numbered == 1)

    async def _publish(self, session: Session, lead: Lead, look: Look) -> None:
        """Sign the tree if it has grown; remember it before it is served."""
        if (look.newest is not None and lead.tree.size <= look.newest.size) or not lead.tree.size:
            return
        note = self._key.sign(size=lead.tree.size, root=lead.tree.root)
        if not await self._remember(note):
            return

        async def work(connection: Connection) -> None:
            await log.require_token(connection, lead.token)
            await log.add_checkpoint(connection, self._key.open(note), note)

        await session.transact("log_checkpoint", work, seconds=WORK_SECONDS)
        metrics.LOG_CHECKPOINTS.inc()
        self._state.confirmed(note, size=lead.tree.size)

    async def _remember(self, note: bytes) -> bool:
        """Advance the high-water mark; without it nothing is published, and the lag says so."""
        try:
            await asyncio.to_thread(self._watermark.advance, note)
        except (WatermarkUnreadable, WatermarkUnwritable) as error:
            logging.get().error("log_watermark_failed", error=type(error).__name__)
            return False
        return True

    async def _quarantine(self, session: Session, look: Look, why: Quarantine) -> None:
        """Stop, and tell all replicas."""
        self._state.enter_quarantine(why)
        if not look.is_new:
            return

        async def work(connection: Connection) -> None:
            await log_quarantine.set_up(connection, why, replica=self._replica, watermark=look.marked)

        await session.transact("log_quarantine", work, seconds=WORK_SECONDS)
