"""What this replica knows about the log: may it be relied on, how late is it, what was published (mode 15).

Apply asks `require_sound` before its transaction, and `log_quarantine.require_none` inside it. Whoever answers people
asks `status`. After every loss of the database the log is in doubt until it has been compared with the high-water mark
again: the database that comes back may be an older one.
"""

from enum import Enum
from typing import Final

from app import log, metrics
from app.errors import LogLagging, LogQuarantined
from app.resilience.deadline import Clock
from app.storage.log import Backlog
from app.storage.log_quarantine import Quarantine

HIGH_TIER_LAG_SECONDS_MAX: Final = 60.0
"""firewall.md section 10: later than this, nothing of tier high or above is applied."""


class Status(Enum):
    """What this replica does with the log."""

    OFF = "off"
    DOUBTFUL = "doubtful"
    FOLLOWING = "following"
    SEQUENCING = "sequencing"
    QUARANTINE = "quarantine"


class LogState:
    """Written by the sequencer's loop, read by everybody else in this process."""

    def __init__(self, *, is_on: bool, clock: Clock) -> None:
        self._clock = clock
        self._status = Status.DOUBTFUL if is_on else Status.OFF
        self._backlog = Backlog(unsequenced=0, lag_seconds=0)
        self._measured_at = clock()
        self._note: bytes | None = None
        self._size = 0
        self._confirmed_at = clock()
        self.quarantine: Quarantine | None = None
        self._tell()

    @property
    def status(self) -> Status:
        """What this replica does with the log."""
        return self._status

    @property
    def is_quarantined(self) -> bool:
        """Whether the log in the database is known not to extend what was published."""
        return self._status is Status.QUARANTINE

    @property
    def lag_seconds(self) -> float:
        """The age of the oldest event that no checkpoint covers; grows by itself while nobody measures."""
        if self._status is Status.OFF:
            return 0.0
        unseen = max(0.0, self._clock() - self._measured_at)
        return self._backlog.lag_seconds + (unseen if self._status is Status.DOUBTFUL else 0.0)

    @property
    def unsequenced(self) -> int:
        """How many events had no number when last counted."""
        return self._backlog.unsequenced

    def published(self) -> tuple[bytes, float] | None:
        """Return the newest note that this replica knows to be published, and how many seconds ago it was confirmed."""
        return None if self._note is None else (self._note, max(0.0, self._clock() - self._confirmed_at))

    @property
    def published_size(self) -> int:
        """How many entries the newest checkpoint known here covers; 0 without one."""
        return self._size

    def require_sound(self, *, is_high: bool) -> None:
        """Refuse to rely on the log when it must not be; `is_high`: for a change of tier high or above.

        Raises:
            LogQuarantined: if a person has to look first.
            LogLagging: if it was not compared with what was published since the database came back, or is too late.
        """
        if self._status is Status.QUARANTINE:
            raise LogQuarantined
        if self._status is Status.DOUBTFUL or (is_high and self.lag_seconds > HIGH_TIER_LAG_SECONDS_MAX):
            raise LogLagging

    def doubt(self) -> None:
        """Note that the database was lost; a quarantine stays."""
        if self._status not in {Status.OFF, Status.QUARANTINE}:
            self._become(Status.DOUBTFUL)

    def follow(self) -> None:
        """Note that the log is sound and another replica numbers."""
        self._become(Status.FOLLOWING)

    def sequence(self) -> None:
        """Note that the log is sound and this replica numbers."""
        self._become(Status.SEQUENCING)

    def enter_quarantine(self, why: Quarantine) -> None:
        """Note that the log is not what was published."""
        self.quarantine = why
        if self._status is not Status.QUARANTINE:
            log.get().error(
                "log_quarantined", reason=why.reason, size=why.size, watermark_size=why.watermark_size
            )  # FM15
        self._become(Status.QUARANTINE)

    def measured(self, backlog: Backlog) -> None:
        """Note what no checkpoint covers."""
        self._backlog = backlog
        self._measured_at = self._clock()

    def confirmed(self, note: bytes, *, size: int) -> bool:
        """Note a published checkpoint; return whether it is the newest, for one over less than is known says nothing.

        Called with whatever is shown to anybody, so that nobody is shown less afterwards.
        """
        if size < self._size:
            return False
        self._note, self._size = note, size
        self._confirmed_at = self._clock()
        return True

    def forget(self) -> None:
        """Note that the high-water mark went back: what was known is no longer part of the log."""
        self._note, self._size = None, 0

    def _become(self, status: Status) -> None:
        if status is self._status:
            return
        before, self._status = self._status, status
        if status is not Status.QUARANTINE:
            self.quarantine = None
        self._tell()
        log.get().info("log_status_changed", status=status.value, before=before.value)

    def _tell(self) -> None:
        for status in Status:
            metrics.LOG_STATUS.labels(status.value).set(status is self._status)
        metrics.LOG_QUARANTINED.set(self.is_quarantined)
