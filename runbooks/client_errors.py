#!/usr/bin/env python3
"""Which requests are refused, and whether one client or many: the pattern behind HighClientErrorRate.

    client_errors.py PROMETHEUS [--minutes N]      over the last minute or more, from its own counters

Clients are told apart by the bucket that a hash puts each into (`firewall_client_refusals_total`): one bucket that has
most of the refusals is one client, or a few. Exit codes: 0 a pattern was seen, 1 nothing is refused, 2 nobody could be
asked. Only the standard library.
"""

import argparse
import http.client
import json
import sys
import urllib.error
import urllib.parse
import urllib.request

TIMEOUT_SECONDS = 5.0
BODY_BYTES_MAX = 4 * 1024 * 1024
SHOWN_MAX = 8
REFUSED_MIN = 5
FEW_SHARE = 0.5
"""One bucket that has more of the refusals than this is one client's doing."""
EXIT_CALM, EXIT_UNREADABLE = 1, 2


def ask(prometheus: str, expression: str) -> list[tuple[dict, float]]:
    """Return labels and value of each series of an instant query; raises OSError and ValueError."""
    url = f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - an operator's own address
        found = json.loads(answer.read(BODY_BYTES_MAX))
    return [(one["metric"], float(one["value"][1])) for one in found["data"]["result"]]


def main(arguments: list[str]) -> int:
    """Say what is refused, to how many."""
    parser = argparse.ArgumentParser(description="Which requests are refused, and whether to one client or to many.")
    parser.add_argument("prometheus", help="such as http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=int, default=1, help="how far back (1)")
    given = parser.parse_args(arguments)
    span = f"[{given.minutes}m]"
    clients = 'route_class!="health"'
    try:
        refused = ask(
            given.prometheus,
            f'sum by (method, route, status) (increase(firewall_requests_total{{{clients},status_class="4xx"}}{span}))',
        )
        answered = ask(given.prometheus, f"sum (increase(firewall_requests_total{{{clients}}}{span}))")
        buckets = ask(given.prometheus, f"sum by (bucket) (increase(firewall_client_refusals_total{span}))")
    except (OSError, ValueError, KeyError, http.client.HTTPException, urllib.error.URLError) as problem:
        sys.stdout.write(f"Prometheus could not be asked: {problem}\npattern: unreadable\n")
        return EXIT_UNREADABLE
    total = sum(value for _, value in refused)
    everything = sum(value for _, value in answered)
    for labels, value in sorted(refused, key=lambda one: -one[1])[:SHOWN_MAX]:
        if value >= 1:
            sys.stdout.write(f"{value:6.0f} x {labels['status']} {labels['method']} {labels['route']}\n")
    if total < REFUSED_MIN:
        sys.stdout.write(f"{total:.0f} refusals\npattern: calm\n")
        return EXIT_CALM
    shares = sorted((value / max(total, 1.0) for _, value in buckets), reverse=True)
    sys.stdout.write(f"{total:.0f} of {everything:.0f} answers were refusals; the loudest client had {shares[0]:.0%}\n")
    sys.stdout.write(f"pattern: {'few clients' if shares[0] > FEW_SHARE else 'many clients'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
