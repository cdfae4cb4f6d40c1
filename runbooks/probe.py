#!/usr/bin/env python3
"""What the runbooks look with: only the standard library, so that it works where nothing else does.

    probe.py http [--post JSON | --put JSON] [--header "NAME: VALUE"] [--key-file FILE]
                  [--token-file FILE] [--timeout SECONDS] [--show HEADER] URL
                                                   status, that header and body; exit 0 below 400, else 22
    probe.py metric NAME ADDRESS [ADDRESS ...]     the sum of a metric's samples over these /metrics
    probe.py strangers LOG [LOG ...]               from which addresses credentials were refused, and how often
    probe.py postgres HOST PORT [PORT ...]         how far a PostgreSQL greeting gets, for each port, and the worst
    probe.py replicas CONTROL                      which replicas are ready, and the exit code of the one that is not
    probe.py refused CONTROL [--names]             what replicas that are not ready say of their settings
    probe.py trial CONTROL [NAME=VALUE ...]        whether a new replica, with these changes, would accept its settings
    probe.py staging CONTROL                       start staging without what was refused; is it ready?
    probe.py patient KEY_FILE URL                  ask until refused (429), wait as long as told, and ask again
    probe.py paced KEY_FILE RATE SECONDS URL       ask RATE times a second; how many were refused

Exit codes as curl's: 0 fine, 7 no connection, 22 an HTTP error, 28 out of time, 1 the probe's answer is "no".
"""

import argparse
import collections
import concurrent.futures
import contextlib
import http.client
import json
import re
import socket
import struct
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 2.0
OWN_ADDRESS = "127.0.0.2"
BODY_BYTES_MAX = 4 * 1024 * 1024
HTTP_ERROR = 400
TOO_MANY = 429
PATIENT_REQUESTS_MAX = 2000
ADDRESSES_SHOWN_MAX = 20
EXIT_NO, EXIT_NO_CONNECTION, EXIT_HTTP_ERROR, EXIT_OUT_OF_TIME = 1, 7, 22, 28
# PostgreSQL's SSLRequest: a server answers one byte, S or N, before any authentication.
GREETING = struct.pack("!ii", 8, 80877103)
# Worst last: what is said of several ports is the worst of them.
CONTROL_HEADER = ("X-Stack-Control: 1",)
KNOWN_EXITS = ("78", "65", "69")
REFUSAL = re.compile(r"^[A-Za-z0-9_?]+: .+; accepted: .+$", re.MULTILINE)
TRIAL_SECONDS = 15.0
RESTART_SECONDS = 30.0
STAGING_SECONDS = 15.0
OUTCOMES = ("open", "strange", "closed", "silent", "refused", "unreachable")


def say(text: str) -> None:
    """Print one line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def ask(
    url: str,
    *,
    body: str | None = None,
    method: str = "GET",
    headers: tuple[str, ...] = (),
    timeout: float = TIMEOUT_SECONDS,
) -> tuple[int, http.client.HTTPMessage, str]:
    """Return status, headers and body; raises OSError (TimeoutError is one) and http.client.HTTPException."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    given = {name.strip(): value.strip() for name, _, value in (header.partition(":") for header in headers)}
    if body is not None:
        given["Content-Type"] = "application/json"
    try:
        path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        connection.request(method, path, body=body, headers=given)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read(BODY_BYTES_MAX).decode(errors="replace")
    finally:
        connection.close()


def secret_of(file: Path) -> str:
    """Return what a key or token file holds; it is sent and never printed."""
    return file.read_text(encoding="ascii").strip()


def probe_http(given: argparse.Namespace) -> int:
    """Say what one request gave."""
    show: str | None = given.show
    method, sent = next(
        ((way, text) for way, text in (("POST", given.post), ("PUT", given.put)) if text), ("GET", None)
    )
    headers = list(given.header)
    if given.key_file is not None:
        headers.append(f"X-API-Key: {secret_of(given.key_file)}")
    if given.token_file is not None:
        headers.append(f"Authorization: Bearer {secret_of(given.token_file)}")
    status, answered, body = ask(given.url, body=sent, method=method, headers=tuple(headers), timeout=given.timeout)
    say(f"HTTP {status}")
    if show is not None:
        say(f"{show}: {answered.get(show, '')}")
    if body.strip():
        say(body.rstrip())
    return EXIT_HTTP_ERROR if status >= HTTP_ERROR else 0


def probe_metric(name: str, addresses: list[str]) -> int:
    """Say the sum over all addresses, and over all label sets unless the name comes with one: `x_total{a="1"}`."""
    bodies = [ask(f"{address}/metrics")[2] for address in addresses]
    samples = [
        float(line.rsplit(" ", 1)[1])
        for body in bodies
        for line in body.splitlines()
        if line.rsplit(" ", 1)[0].partition("{" if "{" not in name else "\n")[0] == name
    ]
    if not samples:
        say(f"{name}: no such metric")
        return EXIT_NO
    total = sum(samples)
    say(f"{name} {int(total) if total.is_integer() else total}")  # steps reckon with it: no 1e+06
    return 0


def ask_with_key(key_file: Path, url: str) -> tuple[int, int]:
    """Return status and Retry-After; the key is never printed."""
    status, answered, _ = ask(url, headers=(f"X-API-Key: {secret_of(key_file)}",))
    return status, int(answered.get("Retry-After", "0"))


def probe_patient(key_file: Path, url: str) -> int:
    """Be a client that is too fast, and then one that waits as it is told."""
    asked = wait = status = 0
    while status < HTTP_ERROR and asked < PATIENT_REQUESTS_MAX:
        status, wait = ask_with_key(key_file, url)
        asked += 1
    if status != TOO_MANY:
        say(f"patient: not refused for being too fast, but HTTP {status} at request {asked}")
        return EXIT_NO
    time.sleep(wait)  # noqa: TID251 - what is shown here is that this length is enough
    again, _ = ask_with_key(key_file, url)
    say(f"patient: refused at request {asked}, waited {wait} s, then {'admitted' if again < HTTP_ERROR else again}")
    return 0 if again < HTTP_ERROR else EXIT_NO


def probe_paced(key_file: Path, rate: float, seconds: float, url: str) -> int:
    """Be a client that keeps to a rate."""
    count, began, refused = int(rate * seconds), time.monotonic(), 0
    for number in range(1, count + 1):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))  # noqa: TID251 - a rate is made of pauses
        status, _ = ask_with_key(key_file, url)
        refused += status >= HTTP_ERROR
    say(f"paced: {count} requests at {rate:g} a second, {refused} refused")
    return 0 if refused == 0 else EXIT_NO


def probe_strangers(logs: list[str]) -> int:
    """Say how often credentials were refused, by the client's address, the busiest first."""
    counts: collections.Counter[str] = collections.Counter()
    for path in logs:
        with Path(path).open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if '"authentication_failed"' in line:
                    with contextlib.suppress(ValueError):
                        counts[str(json.loads(line).get("client_address"))] += 1
    for address, count in counts.most_common(ADDRESSES_SHOWN_MAX):
        say(f"{address} {count}")
    say(f"refused: {counts.total()} from {len(counts)} addresses")
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
    method = "GET" if post is None else "POST"
    status, _, body = ask(f"{address}{path}", body=post, method=method, headers=CONTROL_HEADER, timeout=timeout)
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
    lines = refusals(address)
    for line in names_in(lines) if names else lines:
        say(line)
    return 0


def refusals(address: str) -> list[str]:
    """Return what the replicas that are not ready wrote of their settings, each line once."""
    logs = [control(address, f"/replicas/{name}/log") for name in unready(json.loads(control(address, "/replicas")))]
    return list(dict.fromkeys(line for log in logs for line in REFUSAL.findall(log) if not line.startswith("{")))


def names_in(lines: list[str]) -> list[str]:
    """Return the settings that lines speak of, each once."""
    return list(dict.fromkeys(re.findall(r"FIREWALL_[A-Z0-9_]+", " ".join(lines))))


def probe_trial(address: str, changes: list[str]) -> int:
    """Say whether a replica that is started now would accept its settings, with these changes."""
    wanted = dict(change.split("=", 1) for change in changes)
    trial = json.loads(control(address, "/configuration/trial", post=json.dumps(wanted), timeout=TRIAL_SECONDS))
    for line in REFUSAL.findall(trial["output"]):
        say(line)
    say(f"configuration: {'refused' if trial['exit_code'] else 'accepted'}")
    return EXIT_NO if trial["exit_code"] else 0


def probe_staging(address: str) -> int:
    """Start staging with the configuration as it is but for the settings that were refused, and say if it is ready."""
    control(address, "/configuration/stage", post=json.dumps(names_in(refusals(address))), timeout=RESTART_SECONDS)
    staging = [name for name, state in json.loads(control(address, "/replicas")).items() if is_of_staging(state)]
    began = time.monotonic()
    while time.monotonic() - began < STAGING_SECONDS:
        states = json.loads(control(address, "/replicas"))
        if staging and all(states[name]["ready"] for name in staging):
            say(f"staging: ready after {time.monotonic() - began:.1f} s")
            return 0
        time.sleep(0.2)  # noqa: TID251 - between two looks
    for name in staging:
        for line in REFUSAL.findall(control(address, f"/replicas/{name}/log")):
            say(line)
    say("staging: not ready")
    return EXIT_NO


def is_of_staging(state: dict[str, Any]) -> bool:
    """Say whether a replica is none of production's."""
    return bool(state["environment"] == "staging")


def arguments_parser() -> argparse.ArgumentParser:
    """Return the parser; ``run`` of what it gives does the probe."""
    parser = argparse.ArgumentParser(description="What the runbooks look with.")
    commands = parser.add_subparsers(dest="probe", required=True)
    one = commands.add_parser("http")
    sent = one.add_mutually_exclusive_group()
    sent.add_argument("--post", help="a JSON document to send")
    sent.add_argument("--put", help="the same, with PUT")
    one.add_argument("--header", action="append", default=[], help="such as 'X-Name: value'")
    one.add_argument("--key-file", type=Path, help="a file with the API key to send; a command line is no place for it")
    one.add_argument("--token-file", type=Path, help="the same for a token")
    one.add_argument("--show", help="a header of the answer, such as X-Replica")
    one.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, help="seconds")
    one.add_argument("url")
    one.set_defaults(run=probe_http)
    one = commands.add_parser("metric")
    one.add_argument("name")
    one.add_argument("addresses", nargs="+")
    one.set_defaults(run=lambda given: probe_metric(given.name, given.addresses))
    one = commands.add_parser("strangers")
    one.add_argument("logs", nargs="+")
    one.set_defaults(run=lambda given: probe_strangers(given.logs))
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
    one = commands.add_parser("staging")
    one.add_argument("control")
    one.set_defaults(run=lambda given: probe_staging(given.control))
    one = commands.add_parser("patient")
    one.add_argument("key_file", type=Path)
    one.add_argument("url")
    one.set_defaults(run=lambda given: probe_patient(given.key_file, given.url))
    one = commands.add_parser("paced")
    one.add_argument("key_file", type=Path)
    one.add_argument("rate", type=float, help="requests a second")
    one.add_argument("seconds", type=float)
    one.add_argument("url")
    one.set_defaults(run=lambda given: probe_paced(given.key_file, given.rate, given.seconds, given.url))
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
