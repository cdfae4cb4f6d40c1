"""What the handlers ask for by name, and what works beside them: the only place that puts stages together.

One event writer, one memory of governance documents, one simulator: they are made here and handed to whoever needs
them, so that nothing in a stage knows how another is made.
"""

import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.api.proposals import HttpLimits
from app.resilience.deadline import Clock, Deadline
from app.sandbox.pool import SandboxPool
from app.security import derived_keys
from app.security.api_keys import ApiKeys
from app.security.challenges import Challenges
from app.security.signatures import PrivateKey
from app.settings import Settings
from app.storage.database import Database
from app.storage.events import Events
from app.storage.governance import Documents
from app.workflow.apply import Applier, apply_due
from app.workflow.attestation import Attestations
from app.workflow.bundles import Bundles
from app.workflow.delivery import Dispatcher
from app.workflow.freezing import Freezing
from app.workflow.intake import Proposals
from app.workflow.janitor import Janitor
from app.workflow.key_ring import KeyRing
from app.workflow.log_reading import LogReading
from app.workflow.log_state import LogState
from app.workflow.observation import Observations
from app.workflow.plans import Plans
from app.workflow.reading import ProposalReader
from app.workflow.rollback import Rollbacks
from app.workflow.rulebook import Rulebook
from app.workflow.simulation import Simulator
from app.workflow.targets import Targets
from app.workflow.validator_keys import ValidatorKeys
from app.workflow.votes import Votes
from app.workflow.worker import Loop, Worker

Background = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What stages are made of."""

    settings: Settings
    database: Database
    sandbox: SandboxPool
    log: LogState
    keys: ApiKeys
    clock: Clock


@dataclass(frozen=True, slots=True)
class Gate:
    """The stages by name; the worker, which runs inside `sandbox` and `dispatcher`; other loops."""

    stages: Mapping[str, object]
    worker: Worker
    dispatcher: Dispatcher
    background: Sequence[Background]


def gate(parts: Parts) -> Gate:
    """Put everything together; nothing is opened or started."""
    settings, database = parts.settings, parts.database
    events = Events(actor_key=derived_keys.actor_key(settings.keys.pepper), random=secrets.token_bytes)
    documents = Documents()
    key = None if settings.service_seed is None else PrivateKey(settings.service_seed.reveal())
    simulator = Simulator(
        database, events, documents, parts.sandbox, replica=settings.http.replica, random=secrets.token_bytes
    )
    simulating = Loop("simulate", lambda deadline: simulator.once(deadline=deadline))
    intake = Proposals(database, events, random=secrets.token_bytes, rehearsal=simulator, accepted=simulating.wake)
    rollbacks = Rollbacks(database, intake)
    observations = Observations(database, events, rollbacks)
    dispatcher = Dispatcher(database, observations, settings.delivery, random=secrets.SystemRandom().random)
    delivering = Loop("deliver", lambda deadline: dispatcher.once(deadline=deadline))
    applier = Applier(database, events, documents, parts.log, key=key, applied=delivering.wake)
    applying = Loop("apply", lambda deadline: apply_due(applier, deadline))
    origin = None if settings.log is None else settings.log.origin
    attestations = Attestations(database, parts.log, key=key, origin=origin, clock=parts.clock)
    stages = {
        "limits": HttpLimits(
            body_bytes_max=settings.http.body_bytes_max,
            cursor_key=derived_keys.cursor_key(settings.keys.pepper),
        ),
        "intake": intake,
        "reader": ProposalReader(database),
        "governed": Targets(database, events, check=parts.sandbox, actuator_hosts=settings.delivery.hosts),
        "freezing": Freezing(database, events, documents),
        "applier": applier,
        "rollbacks": rollbacks,
        "observations": observations,
        "attestations": attestations,
        "plans": Plans(database),
        "votes": Votes(database, events, documents, random=secrets.token_bytes),
        "rulebook": Rulebook(database, documents, parts.sandbox),
        "validator_keys": ValidatorKeys(
            database, events, documents, Challenges(derived_keys.challenge_key(settings.keys.pepper))
        ),
        "bundles": Bundles(database, attestations, parts.sandbox),
        "log": LogReading(database, parts.log),
        "key_ring": KeyRing(database, parts.keys, pepper=settings.keys.pepper),
    }
    kept = settings.worker.idempotency_kept_seconds
    janitor = Janitor(database, events, documents, idempotency_kept_seconds=kept)
    loops = (simulating, applying, delivering, Loop("tidy", partial(_tidy, janitor)))
    worker = Worker(database, settings.worker, loops, clock=parts.clock)
    return Gate(stages=stages, worker=worker, dispatcher=dispatcher, background=[attestations.run])


async def _tidy(janitor: Janitor, deadline: Deadline) -> bool:
    return await janitor.once(deadline=deadline) > 0
