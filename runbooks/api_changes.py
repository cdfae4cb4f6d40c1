#!/usr/bin/env python3
"""Whether the API that runs still serves the clients of the one last released: what broke, line by line.

    api_changes.py RELEASED DESCRIPTION [DESCRIPTION ...]     each a file or an http address of an OpenAPI document
    api_changes.py RELEASED --control ADDRESS                 of every replica that runs there

A change breaks clients when a request that was good is refused now, or an answer lacks what it had. Additions do not.
Exit codes: 0 compatible, 1 breaking, 2 nobody could be asked. Only the standard library, so that it works anywhere.
"""

import argparse
import http.client
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

TIMEOUT_SECONDS = 5.0
BODY_BYTES_MAX = 16 * 1024 * 1024
DEPTH_MAX = 24
EXIT_BREAKING, EXIT_UNREADABLE = 1, 2
METHODS = ("get", "post", "put", "patch", "delete")
SUCCESS = "2"
JSON = "application/json"
# Bounds of a schema: what makes them tighter.
TIGHTER_ABOVE = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
TIGHTER_BELOW = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


class Comparison:
    """Collects what breaks between two documents."""

    def __init__(self, released: dict, running: dict) -> None:
        self.released = released
        self.running = running
        self.found: list[str] = []

    def breaking(self) -> list[str]:
        """Return one line for each change that breaks a client."""
        for path, item in self.released["paths"].items():
            for method in METHODS:
                if method in item:
                    name = f"{method.upper()} {path}"
                    now = self.running["paths"].get(path, {}).get(method)
                    if now is None:
                        self.found.append(f"{name}: is gone")
                    else:
                        self._operation(name, item[method], now)
        return list(dict.fromkeys(self.found))

    def _operation(self, name: str, before: dict, now: dict) -> None:
        known = {(one["in"], one["name"]): one for one in before.get("parameters", [])}
        current = {(one["in"], one["name"]): one for one in now.get("parameters", [])}
        for place, one in current.items():
            if one.get("required") and not known.get(place, {}).get("required"):
                self.found.append(f"{name}: the parameter {place[1]} ({place[0]}) is required now")
        for place, one in known.items():
            if place not in current:
                self.found.append(f"{name}: the parameter {place[1]} ({place[0]}) is gone")
            else:
                self._sent(f"{name} {place[1]}", one.get("schema", {}), current[place].get("schema", {}))
        self._sent(f"{name} body", _body(before), _body(now))
        for status, answer in before.get("responses", {}).items():
            if status.startswith(SUCCESS):
                if status not in now.get("responses", {}):
                    self.found.append(f"{name}: does not answer {status} any more")
                else:
                    self._answered(f"{name} {status}", _schema(answer), _schema(now["responses"][status]))

    def _sent(self, where: str, before: dict, now: dict, depth: int = 0) -> None:
        """Compare what a client sends: nothing that was good may be refused."""
        before, now = self._resolved(self.released, before), self._resolved(self.running, now)
        if depth > DEPTH_MAX or before == now:
            return
        if not before and now:
            self.found.append(f"{where}: must be of a certain shape now")
            return
        self._types(where, before, now, narrower="takes")
        self._bounds(where, before, now)
        for field in sorted(set(now.get("required", ())) - set(before.get("required", ()))):
            self.found.append(f"{where}: the field {field} is required now")
        for field, one in before.get("properties", {}).items():
            if field in now.get("properties", {}):
                self._sent(f"{where}/{field}", one, now["properties"][field], depth + 1)
            elif now.get("additionalProperties") is False:
                self.found.append(f"{where}: the field {field} is not taken any more")
        self._variants(where, before, now, self._sent, depth)

    def _bounds(self, where: str, before: dict, now: dict) -> None:
        for gone in _missing(before.get("enum"), now.get("enum")):
            self.found.append(f"{where}: {gone!r} is no choice any more")
        for bounds, sign in ((TIGHTER_ABOVE, 1), (TIGHTER_BELOW, -1)):
            for bound in bounds:
                if bound in now and (bound not in before or sign * now[bound] > sign * before[bound]):
                    self.found.append(f"{where}: {bound} is {now[bound]} now")
        if "pattern" in now and now["pattern"] != before.get("pattern"):
            self.found.append(f"{where}: another pattern")

    def _answered(self, where: str, before: dict, now: dict, depth: int = 0) -> None:
        """Compare what a client reads: nothing that was there may be missing."""
        before, now = self._resolved(self.released, before), self._resolved(self.running, now)
        if depth > DEPTH_MAX or before == now or not before:
            return
        self._types(where, now, before, narrower="may answer other types than")
        for field, one in before.get("properties", {}).items():
            if field not in now.get("properties", {}):
                self.found.append(f"{where}: the field {field} is gone")
            else:
                self._answered(f"{where}/{field}", one, now["properties"][field], depth + 1)
        for field in sorted(set(before.get("required", ())) - set(now.get("required", ()))):
            if field in now.get("properties", {}):
                self.found.append(f"{where}: the field {field} may be missing now")
        self._variants(where, before, now, self._answered, depth)

    def _variants(self, where: str, before: dict, now: dict, compare, depth: int) -> None:  # noqa: ANN001
        if "items" in before and isinstance(now.get("items"), dict):
            compare(f"{where}/*", before["items"], now["items"], depth + 1)
        for kind in ("anyOf", "oneOf"):
            ours, theirs = before.get(kind, []), now.get(kind, [])
            if len(ours) > len(theirs):
                self.found.append(f"{where}: fewer alternatives than before")
            for one, other in zip(ours, theirs, strict=False):
                compare(where, one, other, depth + 1)

    def _types(self, where: str, before: dict, now: dict, *, narrower: str) -> None:
        known, current = _types(before), _types(now)
        if known and current and (lost := known - current):
            self.found.append(f"{where}: {narrower} {', '.join(sorted(current))}, and {', '.join(sorted(lost))} before")

    def _resolved(self, document: dict, schema: dict) -> dict:
        for _ in range(DEPTH_MAX):
            reference = schema.get("$ref")
            if reference is None:
                break
            schema = document["components"]["schemas"][reference.rpartition("/")[2]]
        return schema


def _body(operation: dict) -> dict:
    return operation.get("requestBody", {}).get("content", {}).get(JSON, {}).get("schema", {})


def _schema(answer: dict) -> dict:
    return next((one.get("schema", {}) for one in answer.get("content", {}).values()), {})


def _types(schema: dict) -> set:
    given = schema.get("type", [])
    types = {given} if isinstance(given, str) else set(given)
    return types | ({"integer"} if "number" in types else set())


def _missing(before: list | None, now: list | None) -> list:
    return [] if before is None or now is None else [one for one in before if one not in now]


def read(source: str) -> dict:
    """Return the document in a file or at an address; raises OSError and ValueError."""
    if source.startswith("http://"):
        with urllib.request.urlopen(source, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - http only, see above
            return json.loads(answer.read(BODY_BYTES_MAX))
    return json.loads(Path(source).read_text(encoding="utf-8"))


def replicas(control: str) -> list[str]:
    """Return where each replica that is ready describes itself."""
    asked = urllib.request.Request(f"{control}/replicas", headers={"X-Stack-Control": "1"})  # noqa: S310 - an operator's
    with urllib.request.urlopen(asked, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - see above
        found = json.loads(answer.read(BODY_BYTES_MAX))
    return [f"{one['address']}/schema/openapi.json" for one in found.values() if one["ready"]]


def main(arguments: list[str]) -> int:
    """Say what broke, of every description."""
    parser = argparse.ArgumentParser(description="Whether the API that runs breaks clients of the one released.")
    parser.add_argument("released", help="the description last released")
    parser.add_argument("descriptions", nargs="*", help="files or http addresses")
    parser.add_argument("--control", help="address of what runs the replicas: all of them are asked")
    given = parser.parse_args(arguments)
    try:
        released = read(given.released)
        sources = [*given.descriptions, *(replicas(given.control) if given.control else [])]
        broken = {source: Comparison(released, read(source)).breaking() for source in sources}
    except (OSError, ValueError, KeyError, http.client.HTTPException, urllib.error.URLError) as problem:
        sys.stdout.write(f"nobody could be asked: {problem}\napi: unreadable\n")
        return EXIT_UNREADABLE
    for source, lines in broken.items():
        sys.stdout.write(f"{source}: {len(lines)} breaking changes\n" + "".join(f"  {line}\n" for line in lines))
    word = "unreadable" if not broken else "breaking" if any(broken.values()) else "compatible"
    sys.stdout.write(f"api: {word}\n")
    return {"compatible": 0, "breaking": EXIT_BREAKING}.get(word, EXIT_UNREADABLE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
