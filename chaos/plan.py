"""What one world is to do: written by the host as ``plan.json``, read by the engine, kept to reproduce the run."""

from pathlib import Path

import msgspec

NOT_ASKED_FOR = "not asked for"
"""Why an injection is skipped that the caller left out: nobody may take the rest for the whole."""


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One scenario, resolved against this host."""

    failure_mode: str  # "FM01"
    slug: str
    profile: str
    seed: int
    isolation: str  # "root", "user" or "none": see compose.world
    run_id: str
    injections: tuple[str, ...]  # names, in order
    skipped: dict[str, str]  # injection -> why this host cannot run it
    service_path: str  # folder that holds the package ``app``; a planted-defect copy may stand here
    inject_faults: bool = True  # False: the negative control, everything but the faults
    follow_runbook: bool = True  # False: only where a step of it is the undo

    def write(self, folder: Path) -> Path:
        """Write ``plan.json`` into the evidence folder."""
        path = folder / "plan.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")
        return path

    @classmethod
    def read(cls, folder: Path) -> "Plan":
        """Read ``plan.json``; raises ``msgspec.ValidationError`` if it is not one."""
        return msgspec.json.decode((folder / "plan.json").read_bytes(), type=cls)
