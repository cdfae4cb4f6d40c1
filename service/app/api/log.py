"""GET of the log: checkpoint, entries, tiles (C2SP tlog-tiles below `/api/v1/log`), proofs. Only what is published."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter

from app.api import facts
from app.api.problems import MEDIA_TYPE, Problem
from app.core.log import tiles
from app.core.log.merkle import SIZE_MAX
from app.core.log.tiles import Tile
from app.errors import NotFound
from app.workflow.log_reading import ConsistencyProof, EntriesPage, InclusionProof, LogReading

OCTETS: Final = "application/octet-stream"
NOTE: Final = "text/plain"
LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 256
TILE_LEVEL_MAX: Final = 63
IMMUTABLE: Final = {"cache-control": "private, max-age=31536000, immutable"}
REFUSALS: Final = {
    400: "The request is not acceptable.",
    401: "No valid API key.",
    403: "The key's roles do not allow this.",
    404: "Nothing of that kind is published.",
    429: "Too many requests; Retry-After says when there is room again.",
    500: "A mistake of ours.",
    503: "The database is gone.",
    504: "The database did not answer in time.",
}

_encode: Final = msgspec.json.Encoder().encode

Place = Annotated[
    str,
    PathParameter(
        description="`x001/x234/067` is tile 1234067; `.p/12` behind it asks for its first 12 places.",
        examples=[Example(summary="The first entry", value="000.p/1")],
    ),
]


def _size(description: str) -> Any:
    return QueryParameter(ge=1, le=SIZE_MAX, description=description)


def _found(container: Any, description: str, media_type: str = "application/json") -> Mapping[int, ResponseSpec]:
    found = ResponseSpec(container, description=description, media_type=media_type, generate_examples=False)
    refused = {
        status: ResponseSpec(Problem, description=sentence, media_type=MEDIA_TYPE, generate_examples=False)
        for status, sentence in REFUSALS.items()
    }
    return {200: found, **refused}


class LogController(Controller):
    """The log: what was published, for anybody who wants to check it."""

    path = "/api/v1/log"
    tags = ("log",)
    security = [{"api_key": []}, {"token": []}]  # noqa: RUF012 - Litestar wants a list

    @get(
        "/checkpoint",
        summary="The newest checkpoint",
        media_type=NOTE,
        responses=_found(str, "A signed note (C2SP tlog-checkpoint).", NOTE),
        roles={"viewer"},
    )
    async def checkpoint(self, request: Request[Any, Any, Any], log: NamedDependency[LogReading]) -> Response[bytes]:
        """Answer the note; with `Age` when it is the newest known here and the database cannot be asked or believed."""
        published = await log.checkpoint(deadline=facts.of(request.scope).deadline)
        headers = {} if published.age_seconds is None else {"age": str(int(published.age_seconds))}
        return Response(published.note, headers=headers, media_type=NOTE)

    @get(
        "/entries",
        summary="Entries with their bodies",
        responses=_found(EntriesPage, "In log order; empty beyond the end."),
        roles={"viewer"},
    )
    async def entries(
        self,
        request: Request[Any, Any, Any],
        log: NamedDependency[LogReading],
        begin: Annotated[
            int, QueryParameter(name="from", ge=0, le=SIZE_MAX, description="The first index wanted.")
        ] = 0,
        limit: Annotated[
            int, QueryParameter(ge=1, le=LIMIT_MAX, description="How many at most; fewer when they are large.")
        ] = LIMIT_DEFAULT,
    ) -> Response[bytes]:
        """Answer what replay reads: leaves as they were hashed, bodies as they were written."""
        page = await log.entries(begin=begin, limit=limit, deadline=facts.of(request.scope).deadline)
        return Response(_encode(page), media_type="application/json")

    @get(
        "/tile/{level:int}/{place:path}",
        summary="A tile of hashes",
        media_type=OCTETS,
        responses=_found(bytes, "Up to 256 hashes of 32 bytes; never changes.", OCTETS),
        roles={"viewer"},
    )
    async def tile(
        self,
        request: Request[Any, Any, Any],
        log: NamedDependency[LogReading],
        level: Annotated[
            int,
            PathParameter(
                ge=0,
                le=TILE_LEVEL_MAX,
                description="0 are the leaves; L is the tree's level 8 L.",
                examples=[Example(summary="The leaves", value=0)],
            ),
        ],
        place: Place,
    ) -> Response[bytes]:
        """Answer the hashes of one tile; a partial one as long as it is published."""
        content = await log.tile(level, _tile(place), deadline=facts.of(request.scope).deadline)
        return Response(content, headers=IMMUTABLE, media_type=OCTETS)

    @get(
        "/tile/entries/{place:path}",
        summary="A tile of leaves",
        media_type=OCTETS,
        responses=_found(bytes, "Up to 256 leaves, each behind its length in two bytes; never changes.", OCTETS),
        roles={"viewer"},
    )
    async def entries_tile(
        self, request: Request[Any, Any, Any], log: NamedDependency[LogReading], place: Place
    ) -> Response[bytes]:
        """Answer the leaves of one tile, without bodies."""
        content = await log.entries_tile(_tile(place), deadline=facts.of(request.scope).deadline)
        return Response(content, headers=IMMUTABLE, media_type=OCTETS)

    @get(
        "/proofs/inclusion",
        summary="Prove that an entry is in the log",
        responses=_found(InclusionProof, "Verify it as RFC 9162 section 2.1.3.2 says."),
        roles={"viewer"},
    )
    async def inclusion(
        self,
        request: Request[Any, Any, Any],
        log: NamedDependency[LogReading],
        entry: Annotated[
            int,
            QueryParameter(
                ge=0,
                le=SIZE_MAX,
                description="The entry's index.",
                examples=[Example(summary="The first entry", value=0)],
            ),
        ],
        size: Annotated[int | None, _size("Of the tree; without it, of the newest checkpoint.")] = None,
    ) -> Response[bytes]:
        """Answer the hashes from the entry up to the root, and the checkpoint over that size if one was signed."""
        proof = await log.inclusion(index=entry, size=size, deadline=facts.of(request.scope).deadline)
        return Response(_encode(proof), media_type="application/json")

    @get(
        "/proofs/consistency",
        summary="Prove that the log only grew",
        responses=_found(ConsistencyProof, "Verify it as RFC 9162 section 2.1.4.2 says."),
        roles={"viewer"},
    )
    async def consistency(
        self,
        request: Request[Any, Any, Any],
        log: NamedDependency[LogReading],
        first: Annotated[
            int,
            QueryParameter(
                name="from",
                ge=1,
                le=SIZE_MAX,
                description="The size you know.",
                examples=[Example(summary="The first entry alone", value=1)],
            ),
        ],
        second: Annotated[
            int | None,
            QueryParameter(
                name="to", ge=1, le=SIZE_MAX, description="The larger size; without it, of the newest checkpoint."
            ),
        ] = None,
    ) -> Response[bytes]:
        """Answer the hashes that lead from one root to both."""
        proof = await log.consistency(first=first, second=second, deadline=facts.of(request.scope).deadline)
        return Response(_encode(proof), media_type="application/json")


def _tile(place: str) -> Tile:
    tile = tiles.parse(place.removeprefix("/"))
    if tile is None:
        raise NotFound
    return tile
