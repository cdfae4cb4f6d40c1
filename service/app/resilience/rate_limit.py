"""How fast one client may ask: a token bucket each, shared by all replicas through Valkey (FM06, docs/adr/0036).

A request takes one token or is refused with the time until there is one. What keeps that cheap and safe:
- a refusal is remembered here until it ends, so a flood costs Valkey one call a token and not one a request;
- Valkey is asked once a request at most, for at most 100 ms. The first call without an answer opens the circuit: from
  then on nobody waits, and each replica counts alone, up to its share of the limit, until a probe beside the requests
  is answered again;
- everything that is remembered by key is bounded in number.
"""

import asyncio
import hashlib
import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Literal

from app import log, metrics
from app.errors import RateLimited
from app.resilience.breaker import Breaker, CircuitOpen, State
from app.resilience.deadline import Clock
from app.resilience.token_bucket import UNITS, TokenBuckets
from app.resilience.valkey import Valkey, ValkeyGone
from app.settings import RateLimit, RateLimitPolicy

Scope = Literal["address", "principal"]

FAILURES: Final = 1
"""Calls without an answer that open the circuit: a silent Valkey costs one wait, not several."""
PROBE_SECONDS: Final = 1.0
KEY_BYTES: Final = 16
IPV6_PREFIX: Final = 64
"""What one customer gets; single addresses below it cost nothing."""
REFUSAL_LOG_SECONDS: Final = 1.0
"""One log line a client and second: a flood must not become a flood of lines. `refused` in it counts."""
MICROSECONDS: Final = 1_000_000


@dataclass(slots=True)
class _Known:
    """What this replica remembers of one bucket; times in seconds of its own monotonic clock."""

    refused_until: float = -math.inf
    """No token before."""
    promised: float = -math.inf
    """A token then, however long the answer took to come here."""
    level: int | None = None
    steady_us: int = 0
    at: float = 0.0
    logged_at: float = -math.inf
    refused: int = 0


class RateLimiter:
    """The limits of all clients, as this replica sees them."""

    def __init__(self, policy: RateLimitPolicy, *, valkey: Valkey | None, clock: Clock) -> None:
        """Count alone when `valkey` is None."""
        self._policy = policy
        self._valkey = valkey
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._local = TokenBuckets(replicas=policy.replicas, entries_max=policy.entries_max)
        self._breaker = Breaker(
            metrics.VALKEY,
            failures=FAILURES,
            cooldown_seconds=math.inf,
            clock=clock,
            on_change=lambda state: metrics.CIRCUIT_STATE.labels(metrics.VALKEY).set(state),
        )
        metrics.DEPENDENCY_UP.labels(metrics.VALKEY).set(valkey is not None)

    @property
    def is_degraded(self) -> bool:
        """Whether the buckets should be shared and are not."""
        return self._valkey is not None and self._breaker.state is not State.CLOSED

    @property
    def remembered(self) -> int:
        """How many buckets this replica remembers."""
        return len(self._known)

    @property
    def status(self) -> str:
        """`shared`, or `local` while each replica counts alone."""
        return "local" if self._valkey is None or self.is_degraded else "shared"

    async def take(self, scope: Scope, subject: str, *, request_id: str, client_address: str) -> None:
        """Take a token of `subject`: an address, or a principal.

        Raises:
            RateLimited: there is none.
        """
        limit = self._limit_of(scope, subject)
        key = _key(scope, subject)
        known = self._recall(key)
        now = self._clock()
        if now < known.refused_until:
            wait = known.promised - now
        else:
            wait = await self._ask(key, known, limit)
        if wait <= 0:
            return
        metrics.RATE_LIMIT_REJECTIONS.labels(scope).inc()
        known.refused += 1
        if now - known.logged_at >= REFUSAL_LOG_SECONDS:
            # FM06: who it was, for the question whether it is an attack (runbook, step 3).
            log.get().warning(
                "rate_limited",
                scope=scope,
                principal=subject if scope == "principal" else None,
                client_address=client_address,
                refused=known.refused,
                wait_seconds=round(wait, 6),
                request_id=request_id,
            )
            known.logged_at, known.refused = now, 0
        raise RateLimited(wait)

    async def watch(self) -> None:
        """Ask Valkey for a sign of life each second, until cancelled; requests never have to."""
        if self._valkey is None:
            return
        async with self._valkey:
            while True:
                await self._probe(self._valkey)
                await asyncio.sleep(PROBE_SECONDS)

    async def _probe(self, valkey: Valkey) -> None:
        try:
            permit = self._breaker.admit_probe()
        except CircuitOpen:
            return
        with permit:
            try:
                await valkey.ping(anew=permit.is_probe)
            except ValkeyGone as gone:
                permit.failed()
                self._lost(gone)
            else:
                permit.succeeded()
                if permit.is_probe:
                    log.get().info("rate_limit_shared")
                metrics.DEPENDENCY_UP.labels(metrics.VALKEY).set(1)

    async def _ask(self, key: str, known: _Known, limit: RateLimit) -> float:
        """Return how many seconds to wait; 0: a token was taken."""
        if self._valkey is not None:
            try:
                with self._breaker.admit() as permit:
                    try:
                        wait = await self._ask_valkey(self._valkey, key, known, limit)
                    except ValkeyGone as gone:
                        permit.failed()
                        self._lost(gone)
                    else:
                        permit.succeeded()
                        return wait
            except CircuitOpen:
                pass
        metrics.RATE_LIMIT_LOCAL.inc()
        now = self._clock()
        taking = self._local.take(key, limit, now_us=int(now * MICROSECONDS))
        wait = taking.wait_us / MICROSECONDS
        if not taking.taken:
            known.refused_until = known.promised = now + wait
        return wait

    async def _ask_valkey(self, valkey: Valkey, key: str, known: _Known, limit: RateLimit) -> float:
        asked = self._clock()
        memory = ("", "")
        if known.level is not None:
            steady = known.steady_us + int((asked - known.at) * MICROSECONDS)
            refilled = known.level + (steady - known.steady_us) * limit.per_minute
            memory = (str(min(refilled, limit.burst * UNITS)), str(steady))
        taken, wait_us, level, steady_us = await valkey.take(key, str(limit.per_minute), str(limit.burst), *memory)
        answered = self._clock()
        # Answers may overtake each other; the bucket's time says which is newer.
        if known.level is None or steady_us >= known.steady_us:
            known.level, known.steady_us, known.at = level, steady_us, answered
        if taken:
            return 0.0
        wait = wait_us / MICROSECONDS
        known.refused_until, known.promised = asked + wait, answered + wait
        return wait

    def _lost(self, gone: ValkeyGone) -> None:
        metrics.DEPENDENCY_UP.labels(metrics.VALKEY).set(0)
        metrics.VALKEY_ERRORS.labels(gone.kind).inc()
        log.get().warning("rate_limit_local", reason=gone.kind, detail=gone.reason)

    def _limit_of(self, scope: Scope, subject: str) -> RateLimit:
        if scope == "address":
            return self._policy.address
        return self._policy.principals.get(subject, self._policy.principal)

    def _recall(self, key: str) -> _Known:
        known = self._known.pop(key, None) or _Known()
        self._known[key] = known
        while len(self._known) > self._policy.entries_max:
            self._known.popitem(last=False)
        return known


def network_of(address: str) -> str:
    """Return what one client is counted by: an IPv4 address, or the /64 around an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))


def _key(scope: Scope, subject: str) -> str:
    """Return a name of one length, which says nothing about who it is to those who can look into Valkey."""
    counted = network_of(subject) if scope == "address" else subject
    return f"amgf:rate:{scope}:{hashlib.sha256(counted.encode('utf-8', 'replace')).digest()[:KEY_BYTES].hex()}"
