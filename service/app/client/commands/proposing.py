"""amgf propose, withdraw, rollback: asking for a change."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from app.client import files, plan, shown
from app.client.exits import NO, Stop, bad_input
from app.client.session import Session, pass_session
from app.core.documents import canonical, patch
from app.core.documents import pointer as pointers
from app.core.documents.difference import between
from app.core.governed.target import is_governance
from app.errors import PatchFailed

TIERS = ("low", "medium", "high", "critical")


@click.command()
@click.argument("target")
@click.argument("patch_file", required=False, type=click.Path(path_type=Path))
@click.option("--from", "old", type=click.Path(path_type=Path), help="The document as you had it.")
@click.option("--to", "new", type=click.Path(path_type=Path), help="The document as it should be.")
@click.option("--rationale", "-m", required=True, help="Why; people read it before they vote.")
@click.option("--risk", type=click.Choice(TIERS), default="low", show_default=True, help="Your own estimate.")
@click.option("--supersedes", help="The proposal that this one stands in for.")
@click.option("--evidence", multiple=True, metavar="DIGEST", help="sha256:... of what supports it; repeat.")
@click.option("--dry-run", is_flag=True, help="Simulate it, store nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@pass_session
def propose(
    session: Session, /, target: str, patch_file: Path | None, *, yes: bool, dry_run: bool, **told: Any
) -> None:
    """Propose a change to TARGET: a PATCH_FILE (RFC 6902), or the difference between two documents.

    With --from and --to, the difference is put on top of the current version; it is refused where that has moved on in
    the same place. With --to alone, the difference to the current version is proposed.
    """
    with session.firewall() as firewall:
        current = firewall.get(f"/targets/{quote(target, safe='')}/current").value()
        document = current["document"]
        operations = _operations(patch_file, told["old"], told["new"], document)
        after = _applied(document, operations)
        session.say(f"{shown.text(target)}, version {current['version']} -> {current['version'] + 1}")
        for line in plan.lines(document, after):
            session.say(f"  {line}")
        body = {
            "target": target,
            "base_version": current["version"],
            "base_digest": current["digest"],
            "kind": "governance" if is_governance(target) else "mutation",
            "patch": operations,
            "rationale": told["rationale"],
            "declared_risk": told["risk"],
            "evidence": list(told["evidence"]),
            "supersedes": told["supersedes"],
        }
        if dry_run:
            _tell_dry_run(session, firewall.post("/proposals", body, query={"dry_run": "true"}).value())
            return
        if not yes and not session.as_json:
            click.confirm("Propose this?", abort=True)
        made = firewall.post("/proposals", body).value()
    session.say(f"proposal {made['id']}  {made['state']}")
    session.tell(made)


@click.command()
@click.argument("proposal")
@pass_session
def withdraw(session: Session, proposal: str) -> None:
    """Withdraw a proposal of yours that is still open."""
    with session.firewall() as firewall:
        told = firewall.post(f"/proposals/{proposal}/withdrawal", {}).value()
    session.say(f"proposal {told['id']}  {told['state']}")
    session.tell(told)


@click.command()
@click.argument("target")
@click.argument("version", type=click.IntRange(min=1))
@click.option("--reason", "-m", required=True, help="Why; people read it before they vote.")
@pass_session
def rollback(session: Session, target: str, version: int, reason: str) -> None:
    """Propose to go back to VERSION of TARGET: a new version with the old content."""
    with session.firewall() as firewall:
        address = f"/targets/{quote(target, safe='')}"
        before = firewall.get(f"{address}/current").value()
        after = firewall.get(f"{address}/snapshots/{version}").value()
        for line in plan.lines(before["document"], after["document"]):
            session.say(f"  {line}")
        made = firewall.post(f"{address}/rollbacks", {"to_version": version, "reason": reason}).value()
    session.say(f"proposal {made['id']}  {made['state']}")
    session.tell(made)


def _operations(patch_file: Path | None, old: Path | None, new: Path | None, document: Any) -> list[Any]:
    if (patch_file is None) == (new is None):
        raise Stop("give either a patch file, or --to FILE (with --from FILE)", code=64)
    if patch_file is not None:
        told = files.read_json(patch_file)
        if not isinstance(told, list):
            raise bad_input(f"{patch_file} is no JSON Patch: it is not an array")
        return list(told)
    assert new is not None  # noqa: S101 - one of the two is given
    wanted = files.read_json(new)
    before = document if old is None else files.read_json(old)
    operations = between(before, wanted)
    if not operations:
        raise Stop("the two documents are equal: there is nothing to propose", code=NO)
    if old is not None and _digest(before) != _digest(document):
        # What the proposer did not look at must not be what they change.
        tests = [
            {"op": "test", "path": one["path"], "value": pointers.resolve(before, one["path"])}
            for one in operations
            if one["op"] != "add"
        ]
        operations = [*tests, *operations]
    return operations


def _applied(document: Any, operations: list[Any]) -> Any:
    try:
        return patch.apply(document, patch.parse(operations)).value
    except PatchFailed as error:
        where = f"operation {error.index}, {shown.text(error.pointer or '/')}"
        raise bad_input(f"the patch cannot be applied to the current version: {error.message} ({where})") from None


def _digest(value: Any) -> str:
    return canonical.digest(canonical.encode_value(value))


def _tell_dry_run(session: Session, told: Any) -> None:
    record = told.get("simulation", told.get("record", told))
    session.say(
        f"simulated: {shown.text(record.get('verdict'))}, tier {shown.text(record.get('tier'))}; nothing stored"
    )
    for reason in record.get("reasons", []):
        session.say(f"  {shown.text(reason.get('code'))}: {shown.text(reason.get('message'))}")
    session.tell(told)
    if record.get("verdict") != "allow":
        raise SystemExit(NO)
