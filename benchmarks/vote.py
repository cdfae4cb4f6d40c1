"""A vote, from the envelope's bytes to what the tally counts, beside its signature alone: what the rest costs."""

from datetime import timedelta

from app.core.governance.policy_set import DEFAULT
from app.core.governed.target import Tier
from app.core.quorum import tally as quorum
from app.core.quorum import votes
from app.core.signing import envelope
from app.core.signing.envelope import IN_TOTO, pae
from app.core.signing.keys import from_base64
from app.ed25519 import verify
from benchmarks.measure import Pair, Side
from tests.unit.service import electorate


def pairs() -> list[Pair]:
    """Return the pairs of this topic."""
    people = electorate.founding_set()
    ballot = electorate.ballot()
    body = electorate.signed("olga", on=ballot).encode()

    def check() -> votes.VerifiedVote:
        return votes.check(
            envelope.decode(body),
            ballot=ballot,
            ballot_expires_at=electorate.NOW + timedelta(hours=24),
            electorate=people,
            proposer=electorate.PROPOSER,
            principal="olga-person",
            now=electorate.NOW,
            verify=verify,
        )

    signed = envelope.decode(body)
    key = electorate.private_key("olga").public_key
    message, signature = pae(IN_TOTO, signed.peek()), from_base64(signed.signatures[0].sig)
    cast = [electorate.counted(name) for name in ("olga", "sam", "zoe", "robot", "replica")]
    rule = DEFAULT.quorum_of(Tier.HIGH)
    return [
        Pair(
            name="one vote, decoded and checked",
            ours=Side("votes.check", check),
            theirs=Side("its signature alone", lambda: verify(key, message, signature)),
            agree=lambda: check().decision == "approve" and verify(key, message, signature),
        ),
        Pair(
            name="tally of 5 votes",
            ours=Side(
                "quorum.tally",
                lambda: quorum.tally(
                    rule,
                    people,
                    cast,
                    proposal=electorate.PROPOSAL,
                    epoch=1,
                    proposer=electorate.PROPOSER,
                    now=electorate.NOW,
                ),
            ),
        ),
    ]
