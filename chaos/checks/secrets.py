"""No secret anywhere: I15 of chaos.md section 7."""

from typing import Final

from chaos.checks.findings import combine, failed, passed, unknown
from chaos.evidence import Row
from chaos.probes.canaries import CANARIES, CONTROL
from chaos.scenario import Case, Finding

CANARIES_MIN: Final = 5
_SHOWN_MAX: Final = 8
# Where a leak would be looked for first: without having looked there, nothing is known.
PLACES: Final = ("command lines", "metrics of replica-1", "logs/replica-1.log", "errors.jsonl", "database.jsonl")


def no_secret_anywhere(case: Case, *, canaries_min: int = CANARIES_MIN) -> Finding:
    """I15: no key, password, pepper or body's canary in a log, an error, a metric, a command line or the database."""
    rows = case.evidence.rows(CANARIES)
    looks = [row for row in rows if "found" in row.data]
    leaked = [row for row in looks if row.data["found"]]
    if leaked:
        return combine([("", failed(_told(row), [row])) for row in leaked[:_SHOWN_MAX]])
    doubt = _doubt(rows, canaries_min)
    if doubt:
        return unknown(doubt, rows)
    control = next(row for row in rows if row.data["place"] == CONTROL)
    megabytes = sum(int(row.data["bytes"]) for row in looks) / 1e6
    return passed(
        f"{control.data['canaries']} canaries, none in {len(looks)} places ({megabytes:.1f} MB)", [control, *looks]
    )


def _doubt(rows: tuple[Row, ...], canaries_min: int) -> str | None:
    control = next((row.data for row in rows if row.data["place"] == CONTROL), None)
    if control is None or control["canaries"] < canaries_min:
        return f"{0 if control is None else control['canaries']} canaries were looked for, {canaries_min} needed"
    if control["seen"] != control["canaries"]:
        return (
            f"the search finds only {control['seen']} of {control['canaries']} canaries in a text that holds them all"
        )
    blind = [str(row.data["place"]) for row in rows if "error" in row.data]
    looked = {row.data["place"] for row in rows if row.data.get("bytes", 0) > 0}
    missing = [place for place in PLACES if place not in looked]
    if blind or missing:
        return f"nobody looked into {', '.join([*blind, *missing])}"
    return None


def _told(row: Row) -> str:
    leaks = ", ".join(f"{one['name']} ({one['spelling']})" for one in row.data["found"])
    return f"{row.data['place']} holds {leaks}"
