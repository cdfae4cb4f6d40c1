"""Explaining what was seen by an order of the model's steps, and what must be true of the database after each."""

import copy
import itertools
from collections.abc import Sequence
from typing import Any

from tests.integration.service.life_model import RULES, Model
from tests.integration.service.life_world import Op, World

ORDERS_MAX = 20_000
TWIN = "idempotency-in-progress"

# The table of firewall.md section 3, once more: from, to, event.
STEPS = {
    (None, "pending", "proposal-created"),
    ("pending", "simulating", "simulation-started"),
    ("simulating", "pending", "simulation-returned"),
    ("simulating", "failed", "simulation-failed"),
    ("simulating", "denied", "denied"),
    ("simulating", "simulated", "simulated"),
    ("simulated", "approved", "approved"),
    ("simulated", "rejected", "rejected"),
    ("approved", "simulated", "approval-lost"),
    ("simulated", "pending", "reopened"),
    ("approved", "pending", "reopened"),
    *((state, "stale", "stale") for state in ("pending", "simulating", "simulated", "approved")),
    *((state, "withdrawn", "withdrawn") for state in ("pending", "simulating", "simulated", "approved")),
    *((state, "expired", "expired") for state in ("pending", "simulating", "simulated", "approved")),
    ("approved", "applying", "applying"),
    ("applying", "applied", "applied"),
    ("applying", "failed", "apply-failed"),
    ("applied", "rolled_back", "rolled-back"),
}
EVENTS = """
    SELECT proposal_id::text, kind, state_from, state_to, leaf_digest, prev FROM events
    WHERE proposal_id = ANY(%s::uuid[]) ORDER BY ordinal"""
EFFECTS = """
    SELECT p.id::text, p.state, p.revision, p.last_leaf,
        (SELECT count(*) FROM votes v WHERE v.proposal_id = p.id),
        (SELECT count(*) FROM vote_revocations r JOIN votes v ON v.id = r.vote_id WHERE v.proposal_id = p.id),
        (SELECT count(*) FROM snapshots s WHERE s.proposal_id = p.id),
        (SELECT count(*) FROM applications a WHERE a.proposal_id = p.id AND a.state = 'acknowledged'),
        (SELECT count(*) FROM applications a WHERE a.proposal_id = p.id AND a.state = 'dead')
    FROM proposals p WHERE p.id = ANY(%s::uuid[])"""
STANDING = """
    SELECT p.id::text, p.state, p.epoch, array_remove(array_agg(v.digest::text), NULL)
    FROM proposals p LEFT JOIN votes v ON v.proposal_id = p.id AND v.epoch = p.epoch
      AND v.superseded_at IS NULL AND v.revoked_at IS NULL
    WHERE p.id = ANY(%s::uuid[]) GROUP BY p.id"""
Picture = dict[Any, Any]


def explained(
    model: Model,
    seen: Sequence[tuple[Op, str]],
    *,
    unseen: Sequence[Op],
    is_optional: bool,
    picture: Picture,
) -> Model | None:
    """Return the model after some order of these steps that gives what was answered and what is stored, or None.

    `unseen`: steps of the worker, which answers nobody; optional while others act at the same time.
    """
    twins = [str(op.arguments.get("key")) for op, _ in seen]
    steps: list[tuple[Op, str | None]] = [
        (op, told) for op, told in seen if told != TWIN or twins.count(str(op.arguments.get("key"))) < 2
    ]
    steps += [(op, None) for op in unseen]
    tries = [ORDERS_MAX]
    return _explained(model, steps, picture, is_optional=is_optional, tries=tries)


def _explained(
    model: Model, steps: list[tuple[Op, str | None]], picture: Picture, *, is_optional: bool, tries: list[int]
) -> Model | None:
    tries[0] -= 1
    if tries[0] < 0:
        return None
    is_over = not steps or (is_optional and all(told is None for _, told in steps))
    if is_over and picture_of(model) == picture:
        return model
    for place, (op, told) in enumerate(steps):
        then = copy.deepcopy(model)
        answer = getattr(then, op.name)(**op.arguments)
        if told not in {None, answer} and not (told == "created by a twin" and answer.startswith("created ")):
            continue
        found = _explained(then, steps[:place] + steps[place + 1 :], picture, is_optional=is_optional, tries=tries)
        if found is not None:
            return found
    return None


def picture_of(model: Model) -> Picture:
    """Return what the model says is stored."""
    return {
        **{name: (held.state, held.head, held.versions[-1]) for name, held in model.targets.items()},
        **{
            one.number: (
                one.state,
                one.epoch,
                {vote.label for vote in one.votes if vote.stands and vote.epoch == one.epoch},
            )
            for one in model.proposals.values()
        },
    }


def stored(world: World, model: Model) -> Picture:
    """Return what is stored, in the same words."""
    found: Picture = {}
    for name in model.targets:
        state, version = world.rows("SELECT state, version FROM targets WHERE name = %s", name)[0]
        content = world.versions(name)[-1][1]
        found[name] = (state, version, notes_of(name, content))
    numbers = {proposal: number for number, proposal in world.ids.items()}
    labels = {signed.digest(): label for label, signed in world.envelopes.items()}
    for proposal, state, epoch, standing in world.rows(STANDING, list(numbers)):
        found[numbers[proposal]] = (state, epoch, {labels[digest] for digest in standing})
    return found


def notes_of(target: str, content: Any) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(content["params" if target == RULES else "notes"].items()))


def check(world: World, model: Model) -> None:
    """Refuse a database in which a head is no chain, an effect has no event, or a step is none of the table."""
    for name in model.targets:
        check_chain(world, name)
    check_events(world)
    for name, held in model.targets.items():
        frozen = world.rows("SELECT kind FROM events WHERE target = %s AND kind IN ('frozen', 'unfrozen')", name)
        assert len(frozen) == held.freezes + held.thaws, name


def check_chain(world: World, name: str) -> None:
    """Versions 1 to the head, each on the digest before, each by one decided application of its own proposal."""
    rows = world.rows(
        "SELECT s.version, s.digest, s.parent_digest, s.proposal_id, d.version, a.version, t.version, t.digest"
        " FROM snapshots s JOIN targets t ON t.name = s.target LEFT JOIN decisions d ON d.proposal_id = s.proposal_id"
        " LEFT JOIN applications a ON a.proposal_id = s.proposal_id WHERE s.target = %s ORDER BY s.version",
        name,
    )
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1)), name
    assert [row[2] for row in rows] == [None, *(row[1] for row in rows[:-1])], name
    assert (rows[-1][0], rows[-1][1]) == rows[-1][6:], name
    assert len({row[3] for row in rows}) == len(rows), name
    assert all(row[4] == row[5] == row[0] for row in rows[1:]), name
    decided = world.rows("SELECT count(*) FROM decisions WHERE target = %s", name)[0][0]
    assert decided == len(rows) - 1, name


def check_events(world: World) -> None:
    """One event for each effect, in a chain, and no step that is not in the table."""
    chains: dict[str, list[tuple[Any, ...]]] = {proposal: [] for proposal in world.ids.values()}
    for proposal, *event in world.rows(EVENTS, list(chains)):
        chains[proposal].append(tuple(event))
    rows = {row[0]: row[1:] for row in world.rows(EFFECTS, list(chains))}
    for proposal, events in chains.items():
        assert [row[4] for row in events] == [None, *(row[3] for row in events[:-1])], proposal
        moves = [row[:3] for row in events if row[0] not in {"vote-cast", "vote-revoked"}]
        assert {(came, went, kind) for kind, came, went in moves} <= STEPS, proposal
        assert all(before[2] == after[1] for before, after in itertools.pairwise(moves)), proposal
        kinds = [row[0] for row in events]
        state, revision, leaf, *effects = rows[proposal]
        told = ("vote-cast", "vote-revoked", "applying", "applied", "apply-failed")
        assert effects == [kinds.count(kind) for kind in told], proposal
        assert (state, revision, leaf) == (moves[-1][2], len(moves), events[-1][3]), proposal
