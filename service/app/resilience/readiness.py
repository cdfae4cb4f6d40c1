"""Whether this replica wants traffic. Liveness is another question and never looks here (FM09)."""

from app import log, metrics

STARTING = "starting"
DATABASE_LOST = "database_lost"
SCHEMA_MISMATCH = "schema_mismatch"
CLOCK_SKEWED = "clock_skewed"
DRAINING = "draining"


class Readiness:
    """Ready while nothing speaks against it."""

    def __init__(self) -> None:
        self._against: dict[str, None] = {STARTING: None}
        metrics.READY.set(0)

    @property
    def is_ready(self) -> bool:
        """Whether traffic is wanted."""
        return not self._against

    @property
    def has_started(self) -> bool:
        """Whether it was ready, or could have been but for the database, since the start."""
        return STARTING not in self._against

    @property
    def reasons(self) -> tuple[str, ...]:
        """What speaks against traffic, oldest first."""
        return tuple(self._against)

    def object_to(self, reason: str) -> None:
        """Let `reason` speak against traffic."""
        if reason not in self._against:
            self._against[reason] = None
            self._tell(reason)

    def withdraw(self, *reasons: str) -> None:
        """Take back objections."""
        had = [reason for reason in reasons if reason in self._against]
        for reason in had:
            del self._against[reason]
        if had:
            self._tell(",".join(had))

    def _tell(self, reason: str) -> None:
        metrics.READY.set(self.is_ready)
        log.get().info("readiness_changed", ready=self.is_ready, reason=reason, against=list(self._against))
