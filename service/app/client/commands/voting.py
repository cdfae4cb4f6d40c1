"""amgf sign, revoke, recompute: a validator's word."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast

import click

from app.client import files, shown
from app.client.commands.looking import head, plan_lines
from app.client.dossier import Dossier, gather, mismatch
from app.client.exits import NO, Stop
from app.client.http import Firewall, Refusal
from app.client.session import Session, pass_session
from app.core.documents import instants
from app.core.governance import validators
from app.core.governance.validators import Validator
from app.core.replay.standing import VALIDATORS
from app.core.signing import envelope as dsse
from app.core.signing import statement
from app.core.signing.envelope import Envelope
from app.core.signing.statement import Decided
from app.security.signatures import PrivateKey

VALIDITY: Final = timedelta(hours=24)
INTERVAL_SECONDS: Final = 1.0
EXPECTED: Final = frozenset(
    {"ballot-closed", "ballot-superseded", "not-simulated", "not-eligible", "proposer-cannot-vote"}
)
"""Refusals that a machine meets in passing: somebody else decided first."""

key_option = click.option(
    "--key",
    "key_file",
    required=True,
    type=click.Path(path_type=Path),
    envvar="AMGF_SIGNING_KEY_FILE",
    show_envvar=True,
)


@click.command()
@click.argument("proposal")
@click.argument("decision", type=click.Choice(["approve", "reject", "abstain"]))
@key_option
@click.option("--reason", "-m", default="", help="Why; it is part of what you sign.")
@click.option("--hours", type=click.FloatRange(0.1, 168), default=24, show_default=True, help="How long it is good.")
@click.option("--no-simulate", is_flag=True, help="Do not run the simulation here.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@pass_session
def sign(session: Session, /, proposal: str, decision: str, key_file: Path, **told: Any) -> None:
    """Look at a PROPOSAL and vote on it.

    Nothing is signed that was not built here: the documents are fetched, the patch applied, the simulation run and the
    ballot put together anew; it must be the service's, byte for byte.
    """
    pair = files.read_key(key_file)
    with session.firewall() as firewall:
        dossier = gather(firewall, proposal)
        voter = voter_of(dossier, pair)
        for line in (*head(dossier.shown), *plan_lines(dossier)):
            session.say(line)
        if not told["no_simulate"]:
            dossier.resimulate()
            session.say("checked   the simulation, run here, gives the same record")
        session.say(f"vote      {decision} as {shown.text(voter.id)} ({voter.role})")
        if not told["yes"] and not session.as_json:
            click.confirm("Sign?", abort=True)
        sealed = seal(
            dossier,
            voter,
            pair,
            decision=cast("Decided", decision),
            reason=told["reason"],
            recomputed=False,
            validity=timedelta(hours=told["hours"]),
        )
        answer = firewall.post(f"/proposals/{proposal}/votes", sealed.encode()).value()
    session.say(f"state     {shown.text(answer.get('state', 'stored'))}")
    session.tell(answer)


@click.command()
@click.argument("proposal")
@click.argument("vote")
@key_option
@click.option("--reason", "-m", default="", help="Why; it is part of what you sign.")
@pass_session
def revoke(session: Session, proposal: str, vote: str, key_file: Path, reason: str) -> None:
    """Take a VOTE (its id) of yours back, as long as nothing was applied."""
    pair = files.read_key(key_file)
    with session.firewall() as firewall:
        cast_votes = firewall.get(f"/proposals/{proposal}/votes").value().get("items", [])
        found = next((one for one in cast_votes if one["id"] == vote), None)
        if found is None:
            raise Stop("there is no such vote", code=NO)
        envelope = dsse.from_value(found["envelope"])
        given = statement.decode(envelope.peek(), statement.Vote)
        said = statement.revoke(given, digest=envelope.digest(), reason=reason, issued_at=datetime.now(UTC))
        sealed = pair.seal(statement.encode(said), dsse.IN_TOTO)
        answer = firewall.post(f"/proposals/{proposal}/votes/{vote}/revocation", sealed.encode()).value()
    session.say(f"state     {shown.text(answer.get('state', 'revoked'))}")
    session.tell(answer)


@click.command()
@click.argument("proposal", required=False)
@key_option
@click.option("--watch", "seconds", type=click.FloatRange(1, 86_400), help="Recompute whatever comes for so long.")
@click.option("--count", type=click.IntRange(1, 1_000_000), help="With --watch: stop after so many votes.")
@pass_session
def recompute(session: Session, proposal: str | None, key_file: Path, seconds: float | None, count: int | None) -> None:
    """Vote as a machine: run the simulation here and approve only when its digest is the same.

    Exit code 1, and no vote, when it is another: somebody's machine is wrong, and a person has to look.
    """
    pair = files.read_key(key_file)
    if (proposal is None) == (seconds is None):
        raise Stop("give either a proposal or --watch SECONDS", code=64)
    with session.firewall() as firewall:
        if proposal is not None:
            session.tell(recompute_one(session, firewall, proposal, pair))
            return
        done = _watch(session, firewall, pair, seconds=seconds or 0, count=count or 1_000_000)
    session.say(f"{done} votes")
    session.tell({"votes": done})


def recompute_one(session: Session, firewall: Firewall, proposal: str, pair: PrivateKey) -> Any:
    """Recompute a proposal and vote for it; return the service's answer.

    Raises:
        Stop: the record is another here, or cannot be made here. Nothing was signed.
    """
    dossier = gather(firewall, proposal)
    voter = voter_of(dossier, pair)
    if voter.is_human:
        raise Stop(f"{voter.id} is a person; machines recompute", code=64)
    dossier.resimulate()
    sealed = seal(dossier, voter, pair, decision="approve", reason="recomputed", recomputed=True, validity=VALIDITY)
    answer = firewall.post(f"/proposals/{proposal}/votes", sealed.encode()).value()
    session.say(f"{proposal}  equal digest {dossier.simulated.simulation_digest}, voted as {shown.text(voter.id)}")
    return answer


def _watch(session: Session, firewall: Firewall, pair: PrivateKey, *, seconds: float, count: int) -> int:
    deadline = time.monotonic() + seconds
    seen: set[tuple[str, int]] = set()
    done = 0
    while time.monotonic() < deadline and done < count:
        for one in firewall.get("/proposals", query={"state": "simulated", "limit": 100}).value()["items"]:
            name = (str(one["id"]), int(one.get("epoch", 1)))
            if name in seen or done >= count:
                continue
            seen.add(name)
            try:
                recompute_one(session, firewall, name[0], pair)
            except Refusal as refusal:
                if refusal.problem_code not in EXPECTED:
                    raise
                session.progress(f"{name[0]}  {refusal.problem_code}")
            else:
                done += 1
        firewall.pause(min(INTERVAL_SECONDS, max(0.0, deadline - time.monotonic())))
    return done


def voter_of(dossier: Dossier, pair: PrivateKey) -> Validator:
    """Return whose key it is in the validator set that the ballot names, or in the one it would put in force.

    Raises:
        Stop: nobody's.
    """
    found = dossier.electorate.by_keyid(pair.keyid)
    if found is None and dossier.content.target == VALIDATORS:
        found = validators.parse(dossier.result).by_keyid(pair.keyid)
    if found is None:
        raise Stop("this key is not in the validator set that the ballot names", code=NO)
    if found[0].principal == dossier.created.proposer:
        raise Stop("nobody votes on their own proposal", code=NO)
    return found[0]


def seal(
    dossier: Dossier,
    voter: Validator,
    pair: PrivateKey,
    *,
    decision: Decided,
    reason: str,
    recomputed: bool,
    validity: timedelta,
) -> Envelope:
    """Return a signed vote. It never outlives its ballot."""
    now = datetime.now(UTC)
    ends = min(now + validity, instants.from_text(dossier.ballot_expires_at))
    if ends <= now:
        raise mismatch("the ballot has expired")
    said = statement.cast(
        dossier.ballot,
        validator=voter.id,
        role=voter.role,
        decision=decision,
        recomputed=recomputed,
        reason=reason,
        issued_at=now,
        expires_at=ends,
    )
    return pair.seal(statement.encode(said), dsse.IN_TOTO)
