"""What comes back from the sandbox: a record, or the reason why there is none. The second is never an approval."""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from app.core.documents import canonical
from app.sandbox.frames import Reason

Verdict = Literal["allow", "deny", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Inconclusive:
    """No record came back.

    deadline: killed when its time was over. crashed: the process died. memory-limit, cpu-limit: it met its own limit.
    protocol: it wrote something that is no answer. invalid-inputs, engine-mismatch: it refused the inputs.
    nondeterministic: two processes disagreed; the proposal itself is at fault, so it is not worth a retry.
    unavailable: no worker could be started.
    """

    reason: Reason
    detail: str = ""

    @property
    def is_final(self) -> bool:
        """Say whether trying again is pointless."""
        return self.reason in {"nondeterministic", "invalid-inputs"}


class _Outline(msgspec.Struct, frozen=True):
    verdict: Verdict
    tier: str
    result_digest: str | None


@dataclass(frozen=True, slots=True)
class SandboxResult:
    """A simulation's canonical record, and the canonical content it leads to (None when there is none)."""

    record: bytes
    after: bytes | None

    @property
    def digest(self) -> str:
        """The simulation_digest."""
        return canonical.digest(self.record)

    @property
    def verdict(self) -> Verdict:
        """What the record says: allow, deny or inconclusive."""
        return msgspec.json.decode(self.record, type=_Outline).verdict

    def document(self) -> dict[str, Any]:
        """Return the decoded record."""
        record: dict[str, Any] = msgspec.json.decode(self.record)
        return record
