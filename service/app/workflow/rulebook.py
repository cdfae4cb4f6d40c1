"""The rules for who wants to read them, and for who wants to know whether new ones would do."""

import msgspec

from app import ed25519
from app.core.documents import canonical, strict_json
from app.core.governance import policy_set
from app.core.simulation import constitution
from app.errors import Flaw, InvalidPolicySet, NotFound, SimulationBusy
from app.resilience.deadline import Deadline
from app.sandbox.pool import SandboxPool
from app.sandbox.result import Inconclusive
from app.storage import governance
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.governance import POLICIES, VALIDATORS, Documents, Rules
from app.workflow import bodies


class GovernanceDocument(msgspec.Struct, frozen=True):
    """One version of a governing document, as its canonical content."""

    version: int
    digest: str
    document: msgspec.Raw


class CheckedPolicies(msgspec.Struct, frozen=True):
    """A policy set that would do. `digest`: what its snapshot would be named."""

    digest: str
    rules: int


class Rulebook:
    """Reads the rules in force and those before them; checks policy sets that nobody has proposed yet."""

    def __init__(self, database: Database, documents: Documents, pool: SandboxPool) -> None:
        self._database = database
        self._documents = documents
        self._pool = pool

    async def document(self, target: str, version: int | None, *, deadline: Deadline) -> GovernanceDocument:
        """Return a version of a governing document, the one in force without a number.

        Raises:
            NotFound: there was never such a version.
            NotFounded, DatabaseUnavailable, QueryTimeout: it could not be read.
        """

        async def work(connection: Connection) -> GovernanceDocument | None:
            current = (await governance.read_pins(connection)).by_target()[target]
            found = await governance.content(connection, target, version or current.version)
            return None if found is None else GovernanceDocument(found[0], found[1], msgspec.Raw(found[2]))

        read = await self._database.read("governance_get", work, deadline=deadline)
        if read is None:
            raise NotFound
        return read

    async def check(self, body: bytes, *, deadline: Deadline) -> CheckedPolicies:
        """Return what a policy set would be named, if it would do.

        Raises:
            MalformedBody: the body is not strict JSON.
            InvalidPolicySet: it is none, a rule does not compile, or the constitution does not allow it.
            SimulationBusy: it could not be found out now.
            NotFounded, DatabaseUnavailable, QueryTimeout: the rules in force could not be read.
        """
        document = (await bodies.accepted(strict_json.decode, body)).value
        parsed = policy_set.parse(document)

        async def work(connection: Connection) -> Rules:
            return await self._documents.rules(connection, await governance.read_pins(connection))

        rules = await self._database.read("governance_get", work, deadline=deadline)
        errors = await self._pool.check_policies(document, deadline_seconds=deadline.remaining_seconds())
        if isinstance(errors, Inconclusive):
            raise SimulationBusy
        flaws = [
            Flaw(
                pointer=one["pointer"],
                code="invalid-expression",
                message=one["message"],
                rule=one["rule"],
                line=one["line"],
                column=one["column"],
            )
            for one in errors
        ]
        flaws += constitution.check(
            POLICIES,
            rules.documents[POLICIES],
            document,
            verify=ed25519.verify,
            validators=rules.documents[VALIDATORS],
        )
        if flaws:
            raise InvalidPolicySet(flaws)
        return CheckedPolicies(canonical.digest(canonical.encode_value(document)), len(parsed.rules))
