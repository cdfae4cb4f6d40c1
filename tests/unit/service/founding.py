"""A root and a genesis bundle for tests, with keys made from seeds."""

from typing import Any

from app.core.documents import instants
from app.core.governance import genesis
from app.core.governance.genesis import Genesis
from app.core.governance.policy_set import DEFAULT
from app.core.signing.envelope import GENESIS, Signature
from app.core.signing.keys import to_base64
from tests.unit.service import electorate
from tests.unit.service.electorate import NOW, ORIGIN, private_key

FOUNDERS = ("ada", "bob", "cyd")


def public(name: str) -> str:
    return to_base64(private_key(name).public_key)


def root(**changes: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "version": 1,
        "origin": ORIGIN,
        "log_key": public("log"),
        "service_key": public("service"),
        "threshold": 2,
        "founders": [{"id": name, "public_key": public(name)} for name in FOUNDERS],
        "old_keys": [],
        **changes,
    }


def old_key(name: str, use: str) -> dict[str, Any]:
    window = {"not_before": "2026-01-01T00:00:00.000000Z", "not_after": instants.to_text(NOW)}
    return {"public_key": public(name), "use": use, **window}


def unsigned(**changes: Any) -> Genesis:
    documents: dict[str, Any] = {
        "root": root(),
        "policies": DEFAULT.document(),
        "validators": electorate.founding(),
        "corpus": {"v": 1, "id": "default", "cases": []},
    }
    return genesis.found(**{**documents, **changes}, created_at=NOW)


def signature(bundle: Genesis, name: str) -> Signature:
    return private_key(name).seal(bundle.payload(), GENESIS).signatures[0]


def founded(*names: str, **changes: Any) -> Genesis:
    """The bundle signed by these founders."""
    bundle = unsigned(**changes)
    return genesis.from_value(
        {
            **bundle.document(),
            "signatures": [{"keyid": one.keyid, "sig": one.sig} for one in (signature(bundle, name) for name in names)],
        }
    )
