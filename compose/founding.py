"""What a stack's gate begins with: keys in files, a genesis bundle signed by its founders, API keys, documents.

All keys are made anew for each stack and lie in its secrets folder, mode 0600, one a file: Base64 of an Ed25519 seed.
The bundle is written here from the documents alone (GATE: canonical JSON of ASCII text and whole numbers needs no more
than sorted names), and installed by the service's own command.
"""

import asyncio
import base64
import functools
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
from nacl.signing import SigningKey

from compose import part
from compose.gate import (
    AUDIENCE,
    DOCUMENT,
    ISSUER,
    ISSUER_KEY_ID,
    MOVING_TARGETS,
    QUIET_TARGETS,
    SCHEMA,
    Gate,
    Governed,
    Validator,
)
from compose.postgres import write_secret
from compose.processes import PartFailed

GENESIS: Final = "genesis.json"
ORIGIN: Final = "firewall.example/log"
FOUNDERS: Final = ("first", "second", "third")
THRESHOLD: Final = 2
POLICIES: Final = Path(__file__).parent / "config" / "policies.json"
APPLIER, ADMIN, VIEWER, EDITOR, ACTUATOR = "applier", "administrator", "auditor", "harness-editor", "actuator"
# Who there is, and what else they may do. People propose as well, so that a proposer has a vote to be refused.
PEOPLE: Final = (
    ("ann", "human", "owner", "north"),
    ("ben", "human", "owner", "south"),
    ("cleo", "human", "safety", "north"),
    ("dan", "human", "safety", "south"),
    ("eve", "human", "security", "north"),
    ("recompute-1", "machine", "machine", "north"),
    ("recompute-2", "machine", "machine", "south"),
)
ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    **{name: ("validator", "editor", "viewer") for name, kind, *_ in PEOPLE if kind == "human"},
    **{name: ("validator", "viewer") for name, kind, *_ in PEOPLE if kind == "machine"},
    APPLIER: ("applier", "viewer"),
    ADMIN: ("admin",),
    VIEWER: ("viewer",),
    "breaker-1": ("break_glass", "viewer"),
    "breaker-2": ("break_glass", "viewer"),
    ACTUATOR: ("actuator", "viewer"),
}
_AT_ONCE: Final = 4
_GENESIS_PAYLOAD: Final = "application/vnd.amgf.genesis+json"
_POSSESSION_PAYLOAD: Final = "application/vnd.amgf.key-possession+json"


@dataclass(frozen=True)
class Founding:
    """The keys of one stack, and what is founded on them."""

    service_path: Path
    folder: Path
    """Of the secrets; the keys stand in ``keys`` below it."""

    @functools.cached_property
    def validators(self) -> tuple[Validator, ...]:
        """Everybody who may vote."""
        return tuple(
            Validator(name, name, kind, role, org, 1, self._key(f"validator-{name}"))
            for name, kind, role, org in PEOPLE
        )

    @functools.cached_property
    def log_key(self) -> SigningKey:
        """Signs checkpoints."""
        return self._key("log")

    @functools.cached_property
    def service_key(self) -> SigningKey:
        """Signs decisions and attestations."""
        return self._key("service")

    @functools.cached_property
    def token_key(self) -> SigningKey:
        """Signs tokens, as the issuer of this stack would."""
        return self._key("tokens")

    @property
    def token_keys_file(self) -> Path:
        """Where the replicas read whose tokens are good."""
        return self.folder / "token-keys.json"

    def settings(self, state: Path) -> dict[str, str]:
        """Return what replicas are told: where their keys are, and never the keys; ``state`` is for the log's mark."""
        return {
            "FIREWALL_LOG_KEY_FILE": str(self.file("log")),
            "FIREWALL_SERVICE_KEY_FILE": str(self.file("service")),
            "FIREWALL_ACTUATOR_KEY_FILE": str(self.file("actuator")),
            "FIREWALL_LOG_ORIGIN": ORIGIN,
            "FIREWALL_LOG_WATERMARK_FILE": str(state / "log-high-water-mark"),
            "FIREWALL_ACTUATOR_HOSTS": "127.0.0.1",
            "FIREWALL_TOKEN_KEYS_FILE": str(self.token_keys_file),
            "FIREWALL_TOKEN_ISSUER": ISSUER,
            "FIREWALL_TOKEN_AUDIENCE": AUDIENCE,
        }

    async def govern(self, address: str, admin_key: str, *, actuator: str | None = None) -> dict[str, Governed]:
        """Create the quiet and the moving documents; return them by name.

        Args:
            address: of the service.
            admin_key: API key of an administrator.
            actuator: where every other moving document is delivered; the others rest in the gate itself.

        Raises:
            PartFailed: one was refused.
        """
        names = [*(f"quiet-{n:02d}" for n in range(QUIET_TARGETS)), *(f"moving-{n:02d}" for n in range(MOVING_TARGETS))]
        digest = f"sha256:{hashlib.sha256(_canonical(DOCUMENT)).hexdigest()}"
        async with part.client(address, timeout_seconds=10.0) as http:
            slots = asyncio.Semaphore(_AT_ONCE)

            async def create(name: str) -> None:
                is_delivered = actuator is not None and name in names[QUIET_TARGETS::2]
                config = {
                    "name": name,
                    "schema": SCHEMA,
                    "minimum_tier": "low",
                    "on_failure": "hold",
                    "actuator": {"url": f"{actuator}/deliveries"} if is_delivered else None,
                    "document": DOCUMENT,
                }
                async with slots:
                    answer = await http.post("/api/v1/targets", json=config, headers={"X-API-Key": admin_key})
                if answer.status_code != httpx.codes.CREATED:
                    raise PartFailed("gate", f"refused the target {name}: {answer.status_code} {answer.text.strip()}")

            async with asyncio.TaskGroup() as creating:
                for name in names:
                    creating.create_task(create(name))
        return {name: Governed(name, digest) for name in names}

    def gate(self, api_keys: Mapping[str, str], created: Mapping[str, Governed]) -> Gate:
        """Return what clients need to take part."""
        return Gate(
            origin=ORIGIN,
            log_key=bytes(self.log_key.verify_key),
            service_key=bytes(self.service_key.verify_key),
            token_key=self.token_key,
            genesis=self.folder / GENESIS,
            validators=self.validators,
            api_keys=dict(api_keys),
            quiet_targets=tuple(one for name, one in created.items() if name.startswith("quiet-")),
            moving_targets=tuple(one for name, one in created.items() if name.startswith("moving-")),
        )

    def make_keys(self) -> None:
        """Make every key and write it down."""
        self.file("").parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in (
            "log",
            "service",
            "tokens",
            *(f"founder-{one}" for one in FOUNDERS),
            *(f"validator-{one[0]}" for one in PEOPLE),
        ):
            write_secret(self.file(name), base64.b64encode(secrets.token_bytes(32)).decode())
        write_secret(self.file("actuator"), secrets.token_urlsafe(32))
        x = base64.urlsafe_b64encode(bytes(self.token_key.verify_key)).rstrip(b"=").decode()
        key = {"kty": "OKP", "crv": "Ed25519", "x": x}
        table = {
            "keys": [{"kid": ISSUER_KEY_ID, "alg": "EdDSA", "roles": ["viewer", "editor"], "key": key}],
            "revoked": [],
        }
        write_secret(self.token_keys_file, json.dumps(table))

    def file(self, name: str) -> Path:
        """Return where a key is."""
        return self.folder / "keys" / f"{name}.key"

    def write_genesis(self) -> Path:
        """Write the signed bundle and return where it is."""
        path = self.folder / GENESIS
        path.write_bytes(_canonical(self.genesis()))
        return path

    def genesis(self) -> dict[str, Any]:
        """Return the bundle: root, policies, validators and corpus as they are at version 1, signed by the founders."""
        now = _instant(datetime.now(UTC))
        bundle = {
            "_type": "amgf/genesis",
            "v": 1,
            "root": self._root(),
            "policies": json.loads(POLICIES.read_bytes()),
            "validators": self._electorate(now),
            "corpus": {"v": 1, "cases": []},
            "created_at": now,
        }
        payload = _canonical(bundle)
        founders = [self._key(f"founder-{one}") for one in FOUNDERS]
        return {**bundle, "signatures": [_signature(_GENESIS_PAYLOAD, payload, key) for key in founders]}

    def _root(self) -> dict[str, Any]:
        return {
            "v": 1,
            "version": 1,
            "origin": ORIGIN,
            "log_key": _public(self.log_key),
            "service_key": _public(self.service_key),
            "threshold": THRESHOLD,
            "founders": [{"id": one, "public_key": _public(self._key(f"founder-{one}"))} for one in FOUNDERS],
            "old_keys": [],
        }

    def _electorate(self, now: str) -> dict[str, Any]:
        members = sorted(self.validators, key=lambda one: one.id)
        return {"v": 1, "validators": [_entry(one, now) for one in members], "minimum": 3}

    def _key(self, name: str) -> SigningKey:
        return SigningKey(base64.b64decode(self.file(name).read_text()))


def _entry(one: Validator, now: str) -> dict[str, Any]:
    claim = {
        "_type": "amgf/key-possession",
        "v": 1,
        "validator": one.id,
        "principal": one.principal,
        "public_key": _public(one.key),
        "origin": ORIGIN,
        "challenge": secrets.token_hex(16),
    }
    payload = _canonical(claim)
    possession = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": _POSSESSION_PAYLOAD,
        "signatures": [_signature(_POSSESSION_PAYLOAD, payload, one.key)],
    }
    return {
        "id": one.id,
        "principal": one.principal,
        "kind": one.kind,
        "role": one.role,
        "org": one.org,
        "weight": one.weight,
        "keys": [{"public_key": _public(one.key), "not_before": now, "not_after": None, "possession": possession}],
    }


def _signature(payload_type: str, payload: bytes, key: SigningKey) -> dict[str, str]:
    signed = b"DSSEv1 %d %b %d %b" % (len(payload_type), payload_type.encode(), len(payload), payload)
    keyid = f"sha256:{hashlib.sha256(bytes(key.verify_key)).hexdigest()}"
    return {"keyid": keyid, "sig": base64.b64encode(key.sign(signed).signature).decode()}


def _public(key: SigningKey) -> str:
    return base64.b64encode(bytes(key.verify_key)).decode()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
