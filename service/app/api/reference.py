"""The API reference: OpenAPI at /schema/openapi.json, and a page at /schema that needs nothing from the network.

Litestar's own pages load scripts from a CDN; this one is HTML made from the schema, without scripts.
"""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from litestar import Litestar, Request, Router
from litestar._openapi.plugin import OpenAPIPlugin
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from app.errors import NotFound

TITLE: Final = "AI Mutation Governance Firewall"
DESCRIPTION: Final = (
    "A runtime gate for AI self-modification. Every error is application/problem+json with a stable code; a 503 with "
    "the code database-unavailable promises that nothing was done, one with outcome-unknown asks you to repeat the "
    "request with the same Idempotency-Key."
)
STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
    "h2{margin-top:2.5rem;border-bottom:1px solid #ccc}code,pre{font:14px/1.45 ui-monospace,monospace}"
    "pre{background:#f4f4f4;padding:.8rem;overflow:auto}table{border-collapse:collapse;width:100%}"
    "td,th{text-align:left;padding:.25rem .6rem .25rem 0;vertical-align:top;border-bottom:1px solid #eee}"
    ".method{display:inline-block;min-width:3.5rem;font-weight:700}"
)
PATH: Final = "/schema"
PAGES: Final = (PATH, f"{PATH}/openapi.json")
METHODS: Final = ("get", "post", "put", "patch", "delete")


def openapi_config(version: str) -> OpenAPIConfig:
    """Return what Litestar needs to know about the reference."""
    key = SecurityScheme(
        type="apiKey", name="X-API-Key", security_scheme_in="header", description="amgf_<id>_<secret><checksum>"
    )
    token = SecurityScheme(type="http", scheme="bearer", bearer_format="JWT", description="A token of your issuer.")
    return OpenAPIConfig(
        title=TITLE,
        version=version,
        description=DESCRIPTION,
        use_handler_docstrings=True,
        components=Components(security_schemes={"api_key": key, "token": token}),
        render_plugins=[ReferencePage(path="/"), JsonRenderPlugin()],
        openapi_router=Router(PATH, route_handlers=[], include_in_schema=False, before_request=_require_page),
    )


async def _require_page(request: Request[Any, Any, Any]) -> None:
    """Refuse what Litestar would answer with an HTML page of its own."""
    if request.url.path.rstrip("/") not in PAGES:
        raise NotFound


def complete(application: Litestar, bodies: Sequence[type[msgspec.Struct]]) -> dict[str, Any]:
    """Add what Litestar cannot know, the bodies that we decode ourselves; return the whole schema."""
    schema = application.plugins.get(OpenAPIPlugin).provide_openapi_schema()
    _, components = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    schema["components"]["schemas"].update(components)
    for item in schema["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "header":
                    _without_null(parameter["schema"])
    _without_needless_choices(schema)
    return schema


def _without_null(schema: dict[str, Any]) -> None:
    """Leave "or null" out of a header's schema: there it is a word like any other. In a query it is read as none."""
    choices = [one for one in schema.get("oneOf", []) if one != {"type": "null"}]
    if len(choices) == 1:
        del schema["oneOf"]
        schema.update({**choices[0], **schema})


def _without_needless_choices(schema: Any) -> None:
    """Let "exactly one of: anything, or ..." be anything; as it is written, what fits both would be refused."""
    if isinstance(schema, dict):
        if {} in schema.get("oneOf", ()):
            del schema["oneOf"]
        for member in schema.values():
            _without_needless_choices(member)
    elif isinstance(schema, list):
        for member in schema:
            _without_needless_choices(member)


def fields(schema: Mapping[str, Any]) -> frozenset[str]:
    """Return every name that the API itself gives to a field of a body or to a parameter."""
    components = schema["components"]["schemas"].values()
    operations = [item[method] for item in schema["paths"].values() for method in METHODS if method in item]
    parameters = [parameter["name"] for operation in operations for parameter in operation.get("parameters", [])]
    return frozenset(parameters).union(*(component.get("properties", {}) for component in components))


class ReferencePage(OpenAPIRenderPlugin):
    """Renders the schema as one self-contained page."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the page."""
        del request
        parts = [f"<h1>{_text(TITLE)}</h1><p>{_text(DESCRIPTION)}</p>"]
        parts.append('<p>The schema itself: <a href="/schema/openapi.json">openapi.json</a></p>')
        for path, item in sorted(openapi_schema["paths"].items()):
            parts += [_operation(path, method, item[method]) for method in METHODS if method in item]
        parts.append("<h2>Schemas</h2>")
        for name, schema in sorted(openapi_schema["components"]["schemas"].items()):
            parts.append(f'<h3 id="{_text(name)}">{_text(name)}</h3>{_json(schema)}')
        page = f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(TITLE)}</title><style>{STYLE}</style>"
        return (page + "".join(parts) + "</html>").encode()


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    head = f"<h2><span class=method>{method.upper()}</span> <code>{_text(path)}</code></h2>"
    words = f"<p><strong>{_text(operation.get('summary', ''))}.</strong> {_text(operation.get('description', ''))}</p>"
    rows = "".join(
        f"<tr><td><code>{_text(one['name'])}</code></td><td>{_text(one['in'])}</td>"
        f"<td>{'required' if one.get('required') else ''}</td><td>{_text(one.get('description', ''))}</td></tr>"
        for one in operation.get("parameters", [])
    )
    parameters = f"<table><tr><th>Parameter<th>In<th><th></tr>{rows}</table>" if rows else ""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    answers = "".join(
        f"<tr><td>{_text(status)}</td><td>{_text(answer.get('description', ''))}</td></tr>"
        for status, answer in sorted(operation.get("responses", {}).items())
    )
    call = f"<pre>{_text(_curl(path, method, operation, body))}</pre>"
    return f"{head}{words}{parameters}{call}<table><tr><th>Status<th></tr>{answers}</table>"


def _curl(path: str, method: str, operation: Mapping[str, Any], body: Any) -> str:
    lines = [f"curl -sS -X {method.upper()} http://127.0.0.1:8080{path}"]
    if operation.get("security"):
        lines.append("-H 'X-API-Key: amgf_…'")
    if body is not None:
        lines += ["-H 'Idempotency-Key: my-first-attempt'", "-H 'Content-Type: application/json'"]
        lines.append(f"--data '{json.dumps(body).replace(chr(39), chr(92) + 'u0027')}'")
    return " \\\n  ".join(lines)


def _json(value: Any) -> str:
    return f"<pre>{_text(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


def _text(value: object) -> str:
    return html.escape(str(value))
