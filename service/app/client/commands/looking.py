"""amgf show, list, watch: what became of proposals."""

import time
from typing import Any, Final

import click

from app.client import plan, shown
from app.client.dossier import Dossier, gather
from app.client.exits import NO, UNDECIDED, Stop
from app.client.http import Firewall, Refusal
from app.client.session import Session, pass_session
from app.core.governance.policy_set import QuorumRule
from app.core.governed.lifecycle import TERMINAL, State

INTERVAL_SECONDS: Final = 0.5
GOOD: Final = frozenset({State.APPLIED, State.ROLLED_BACK})
SETTLED: Final = TERMINAL | {State.APPLIED}


@click.command()
@click.argument("proposal")
@pass_session
def show(session: Session, proposal: str) -> None:
    """Show a proposal: what it changes, what the simulation says, who has voted."""
    with session.firewall() as firewall:
        found = firewall.get(f"/proposals/{proposal}").value()
        dossier = None
        if found.get("tier") is not None:
            try:
                dossier = gather(firewall, proposal)
            except Refusal as refusal:
                session.progress(refusal.message)
        cast = firewall.get(f"/proposals/{proposal}/votes").value().get("items", []) if dossier else []
    for line in head(found):
        session.say(line)
    for line in plan_lines(dossier) if dossier else []:
        session.say(line)
    for vote in cast:
        session.say(f"vote      {vote_line(vote)}")
    session.tell({"proposal": found, "simulation": dossier.record if dossier else None, "votes": cast})


@click.command("list")
@click.option("--target", help="Only for this target.")
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only in this state.")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
@pass_session
def list_command(session: Session, target: str | None, state: str | None, limit: int) -> None:
    """List proposals, newest first."""
    with session.firewall() as firewall:
        query = {"target": target, "state": state, "limit": limit}
        found = firewall.get("/proposals", query=query).value()
    for one in found["items"]:
        told = [one["id"], f"{one['state']:11}", f"{one.get('tier') or '-':10}", shown.text(one["target"])]
        session.say("  ".join([*told, shown.text(one["rationale"])[:60]]))
    session.tell(found)


@click.command()
@click.argument("proposal")
@click.option("--until", type=click.Choice([state.value for state in State]), help="Stop at this state as well.")
@click.option("--timeout", type=click.FloatRange(1, 86_400), default=600, show_default=True, help="Seconds.")
@pass_session
def watch(session: Session, proposal: str, until: str | None, timeout: float) -> None:
    """Follow a proposal until it is settled; 0 if it was applied (or reached --until), 1 if not, 3 if time ran out."""
    with session.firewall() as firewall:
        state = follow(session, firewall, proposal, until=until, timeout_seconds=timeout)
    session.tell({"proposal": proposal, "state": state})
    if state != until and state not in GOOD:
        raise SystemExit(NO)


def follow(session: Session, firewall: Firewall, proposal: str, *, until: str | None, timeout_seconds: float) -> str:
    """Return the state in which a proposal settled, or `until`.

    Raises:
        Stop: it did not in time.
    """
    deadline = time.monotonic() + timeout_seconds
    last = None
    while True:
        state = str(firewall.get(f"/proposals/{proposal}").value()["state"])
        if state != last:
            session.say(f"{shown.text(state)}")
            last = state
        if state == until or state in SETTLED:
            return state
        if time.monotonic() >= deadline:
            raise Stop(f"still {shown.text(state)} after {timeout_seconds:g} seconds", code=UNDECIDED)
        firewall.pause(INTERVAL_SECONDS)


def head(found: dict[str, Any]) -> list[str]:
    """Return the lines that say what a proposal is."""
    return [
        f"proposal  {shown.text(found['id'])}  {shown.text(found['state'])}, epoch {found.get('epoch', 1)}",
        f"target    {shown.text(found['target'])}, from version {found['base_version']}",
        f"by        {shown.text(found['principal'])}, until {shown.text(found.get('expires_at'))}",
        *(f"{'why' if number == 0 else '':9} {line}" for number, line in enumerate(shown.lines(found["rationale"]))),
    ]


def plan_lines(dossier: Dossier) -> list[str]:
    """Return the lines that say what a voter decides about."""
    record = dossier.record
    sources = ", ".join(f"{shown.text(one['source'])} {shown.text(one['tier'])}" for one in record["tier_sources"])
    told = [f"  {line}" for line in plan.lines(dossier.base, dossier.result)]
    told.append(f"tier      {dossier.tier.value} ({sources}), {record.get('risk_points', 0)} points")
    told.append(f"needs     {needs(dossier.policies.quorum_of(dossier.tier))}")
    told += [
        f"rule      {shown.text(one['id'])} ({shown.text(one['mode'])}): {shown.text(one['outcome'])}"
        for one in record.get("rules", [])
        if one.get("outcome") != "pass"
    ]
    told += [
        f"flip      {shown.text(one['case'])}: {shown.value(one.get('before'))} -> {shown.value(one.get('after'))}"
        for one in record.get("flips", [])[:20]
    ]
    return told


def needs(rule: QuorumRule) -> str:
    """Return a quorum rule in words."""
    told = [f"{rule.humans} people"] if rule.humans else []
    if rule.recomputes:
        told.append(
            f"{rule.recomputes} recomputes" + (" (or one more person)" if rule.human_replaces_recompute else "")
        )
    if rule.roles:
        told.append("roles " + ", ".join(rule.roles))
    if rule.weight_numerator:
        told.append(f"{rule.weight_numerator}/{rule.weight_denominator} of the weight")
    if rule.veto:
        told.append("veto by " + ", ".join(rule.veto))
    if rule.time_lock_seconds:
        told.append(f"then {rule.time_lock_seconds} seconds")
    return "; ".join(told) + f"; applied {'by itself' if rule.apply == 'auto' else 'by hand'}"


def vote_line(vote: dict[str, Any]) -> str:
    """Return a vote in one line."""
    gone = " (superseded)" if vote.get("superseded_at") else " (revoked)" if vote.get("revoked_at") else ""
    how = " recomputed" if vote.get("recomputed") else ""
    names = f"{shown.text(vote['validator'])} ({shown.text(vote['role'])})"
    return f"{names} {shown.text(vote['decision'])}{how}{gone}, epoch {vote['epoch']}"
