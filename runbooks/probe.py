#!/usr/bin/env python3
"""What the runbooks look with: only the standard library, so that it works where nothing else does.

    probe.py http [--post JSON] [--header "NAME: VALUE"] [--timeout SECONDS] [--show HEADER] URL
                                                   status, that header and body; exit 0 below 400, else 22
    probe.py metric NAME ADDRESS [ADDRESS ...]     the sum of a metric's samples over these /metrics
    probe.py postgres HOST PORT [PORT ...]         how far a PostgreSQL greeting gets, for each port, and the worst
    probe.py replicas CONTROL                      which replicas are ready, and the exit code of the one that is not
    probe.py refused CONTROL [--names]             what replicas that are not ready say of their settings
    probe.py trial CONTROL [NAME=VALUE ...]        whether a new replica, with these changes, would accept its settings

Exit codes as curl's: 0 fine, 7 no connection, 22 an HTTP error, 28 out of time, 1 the probe's answer is "no".
"""

import argparse
import concurrent.futures
import http.client
import json
import re
import socket
import struct
import sys
import urllib.parse
from typing import Any

TIMEOUT_SECONDS = 2.0
OWN_ADDRESS = "127.0.0.2"
BODY_BYTES_MAX = 4 * 1024 * 1024
HTTP_ERROR = 400
EXIT_NO, EXIT_NO_CONNECTION, EXIT_HTTP_ERROR, EXIT_OUT_OF_TIME = 1, 7, 22, 28
# PostgreSQL's SSLRequest: a server answers one byte, S or N, before any authentication.
GREETING = struct.pack("!ii", 8, 80877103)
# Worst last: what is said of several ports is the worst of them.
CONTROL_HEADER = ("X-Stack-Control: 1",)
KNOWN_EXITS = ("78", "65", "69")
REFUSAL = re.compile(r"^[A-Za-z0-9_?]+: .+; accepted: .+$", re.MULTILINE)
TRIAL_SECONDS = 15.0
OUTCOMES = ("open", "strange", "closed", "silent", "refused", "unreachable")


def say(text: str) -> None:
    """Print one line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def ask(
    url: str, *, post: str | None = None, headers: tuple[str, ...] = (), timeout: float = TIMEOUT_SECONDS
) -> tuple[int, http.client.HTTPMessage, str]:
    """Return status, headers and body; raises OSError (TimeoutError is one) and http.client.HTTPException."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    given = {name.strip(): value.strip() for name, _, value in (header.partition(":") for header in headers)}
    if post is not None:
        given["Content-Type"] = "application/json"
    try:
        path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        connection.request("GET" if post is None else "POST", path, body=post, headers=given)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read(BODY_BYTES_MAX).decode(errors="replace")
    finally:
        connection.close()


def probe_http(url: str, *, post: str | None, headers: tuple[str, ...], timeout: float, show: str | None) -> int:
    """Say what one request gave."""
    status, answered, body = ask(url, post=post, headers=headers, timeout=timeout)
    say(f"HTTP {status}")
    if show is not None:
        say(f"{show}: {answered.get(show, '')}")
    if body.strip():
        say(body.rstrip())
    return EXIT_HTTP_ERROR if status >= HTTP_ERROR else 0


def probe_metric(name: str, addresses: list[str]) -> int:
    """Say the sum over all label sets and all addresses."""
    bodies = [ask(f"{address}/metrics")[2] for address in addresses]
    samples = [
        float(line.rsplit(" ", 1)[1])
        for body in bodies
        for line in body.splitlines()
        if line.split("{", 1)[0].split(" ", 1)[0] == name
    ]
    if not samples:
        say(f"{name}: no such metric")
        return EXIT_NO
    say(f"{name} {sum(samples):g}")
    return 0


def greet(host: str, port: int) -> str:
    """Return how far a greeting gets.

    On this machine it comes from an address of its own, so that nobody counts it among the service's connections.
    """
    source = (OWN_ADDRESS, 0) if sys.platform == "linux" and host.startswith("127.") else None
    try:
        connection = socket.create_connection((host, port), timeout=TIMEOUT_SECONDS, source_address=source)
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "unreachable"
    with connection:
        try:
            connection.sendall(GREETING)
            answer = connection.recv(1)
        except TimeoutError:
            return "silent"
        except OSError:
            return "closed"
    if not answer:
        return "closed"
    return "open" if answer in {b"S", b"N"} else "strange"


def probe_postgres(host: str, ports: list[int]) -> int:
    """Say how far each port lets us, and the worst of them."""
    with concurrent.futures.ThreadPoolExecutor(len(ports)) as pool:
        reached = list(pool.map(lambda port: greet(host, port), ports))
    for port, outcome in zip(ports, reached, strict=True):
        say(f"{host}:{port} {outcome}")
    worst = max(reached, key=OUTCOMES.index)
    say(f"path: {worst}")
    return 0 if worst == "open" else EXIT_NO


def control(address: str, path: str, *, post: str | None = None, timeout: float = TIMEOUT_SECONDS) -> str:
    """Ask what runs the replicas; raises OSError when it refuses."""
    status, _, body = ask(f"{address}{path}", post=post, headers=CONTROL_HEADER, timeout=timeout)
    if status >= HTTP_ERROR:
        raise OSError(f"{path}: HTTP {status}")
    return body


def unready(states: dict[str, Any]) -> list[str]:
    """Return the replicas that should be ready and are not."""
    return sorted(name for name, state in states.items() if state["wanted"] and not state["ready"])


def probe_replicas(address: str) -> int:
    """Say of every replica whether it is ready, and with which exit code those ended that are not."""
    states = json.loads(control(address, "/replicas"))
    down = unready(states)
    for name, state in sorted(states.items()):
        how = "ready" if state["ready"] else "stopped"
        if name in down:
            how = f"not ready, {state['restarts']} restarts, last exit code {state['last_exit_code']}"
        say(f"{name} {how}")
    codes = {str(states[name]["last_exit_code"]) for name in down}
    known = next((code for code in KNOWN_EXITS if code in codes), "other" if down else "none")
    say(f"exit: {known}")
    return 0


def probe_refused(address: str, *, names: bool) -> int:
    """Say what the replicas that are not ready wrote of their settings, or only the names in it."""
    logs = [control(address, f"/replicas/{name}/log") for name in unready(json.loads(control(address, "/replicas")))]
    lines = list(dict.fromkeys(line for log in logs for line in REFUSAL.findall(log) if not line.startswith("{")))
    for line in dict.fromkeys(re.findall(r"FIREWALL_[A-Z0-9_]+", " ".join(lines))) if names else lines:
        say(line)
    return 0


def probe_trial(address: str, changes: list[str]) -> int:
    """Say whether a replica that is started now would accept its settings, with these changes."""
    wanted = dict(change.split("=", 1) for change in changes)
    trial = json.loads(control(address, "/configuration/trial", post=json.dumps(wanted), timeout=TRIAL_SECONDS))
    for line in REFUSAL.findall(trial["output"]):
        say(line)
    say(f"configuration: {'refused' if trial['exit_code'] else 'accepted'}")
    return EXIT_NO if trial["exit_code"] else 0


def arguments_parser() -> argparse.ArgumentParser:
    """Return the parser; ``run`` of what it gives does the probe."""
    parser = argparse.ArgumentParser(description="What the runbooks look with.")
    commands = parser.add_subparsers(dest="probe", required=True)
    one = commands.add_parser("http")
    one.add_argument("--post", help="a JSON document to send")
    one.add_argument("--header", action="append", default=[], help="such as 'X-Name: value'")
    one.add_argument("--show", help="a header of the answer, such as X-Replica")
    one.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, help="seconds")
    one.add_argument("url")
    one.set_defaults(
        run=lambda given: probe_http(
            given.url, post=given.post, headers=tuple(given.header), timeout=given.timeout, show=given.show
        )
    )
    one = commands.add_parser("metric")
    one.add_argument("name")
    one.add_argument("addresses", nargs="+")
    one.set_defaults(run=lambda given: probe_metric(given.name, given.addresses))
    one = commands.add_parser("postgres")
    one.add_argument("host")
    one.add_argument("ports", nargs="+", type=int)
    one.set_defaults(run=lambda given: probe_postgres(given.host, given.ports))
    one = commands.add_parser("replicas")
    one.add_argument("control")
    one.set_defaults(run=lambda given: probe_replicas(given.control))
    one = commands.add_parser("refused")
    one.add_argument("control")
    one.add_argument("--names", action="store_true", help="of settings only")
    one.set_defaults(run=lambda given: probe_refused(given.control, names=given.names))
    one = commands.add_parser("trial")
    one.add_argument("control")
    one.add_argument("changes", nargs="*", help="such as NAME=VALUE")
    one.set_defaults(run=lambda given: probe_trial(given.control, given.changes))
    return parser


def main(arguments: list[str]) -> int:
    """Run one probe; its errors become words and an exit code."""
    given = arguments_parser().parse_args(arguments)
    try:
        return int(given.run(given))
    except TimeoutError:
        say("out of time")
        return EXIT_OUT_OF_TIME
    except (OSError, http.client.HTTPException) as problem:
        say(f"no connection: {problem}")
        return EXIT_NO_CONNECTION


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
