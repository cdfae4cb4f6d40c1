"""amgf apply: putting in force what was approved."""

import click

from app.client import shown
from app.client.commands.looking import GOOD, follow
from app.client.exits import NO, TRY_AGAIN, Stop
from app.client.http import Refusal
from app.client.session import Session, pass_session


@click.command()
@click.argument("proposal")
@click.option("--wait", type=click.FloatRange(0, 86_400), default=60, show_default=True, help="Seconds; 0: not.")
@pass_session
def apply(session: Session, proposal: str, wait: float) -> None:
    """Apply an approved PROPOSAL, and wait until it is applied.

    What is applied is what you looked at: if the proposal has moved since, nothing happens (exit 1); while its
    time-lock runs, exit 75.
    """
    with session.firewall() as firewall:
        known = firewall.get(f"/proposals/{proposal}")
        try:
            answer = firewall.post(
                f"/proposals/{proposal}/application", {}, headers={"if-match": known.headers.get("etag", "")}
            ).value()
        except Refusal as refusal:
            if refusal.problem_code == "time-lock":
                seconds = shown.text(refusal.problem.get("retry_after", "?"))
                raise Stop(f"not before {seconds} seconds from now: its time-lock runs", code=TRY_AGAIN) from None
            raise
        session.say(f"applying  {shown.text(proposal)}")
        state = follow(session, firewall, proposal, until=None, timeout_seconds=wait) if wait else "applying"
    session.tell({"application": answer, "state": state})
    if wait and state not in GOOD:
        raise SystemExit(NO)
