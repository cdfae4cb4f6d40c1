"""What is measured on: governed documents of an agent, the same every time."""

from typing import Any

SENTENCE = "You are an assistant who answers questions about invoices, and never sends money. "


def configuration(agents: int, *, has_fractions: bool = True) -> dict[str, Any]:
    """Return the governed document of so many agents: some 550 bytes each."""
    temperature: float = 0.7 if has_fractions else 1
    return {
        "prompts": [
            {"id": f"agent-{number}", "text": SENTENCE * 2, "temperature": temperature, "on": number % 2 == 0}
            for number in range(agents)
        ],
        "tool_grants": {
            f"tool-{number}": {"allow": ["read", "list"], "limit": number * 100, "digest": "sha256:" + "ab" * 32}
            for number in range(agents)
        },
        "routing": {
            "default": "small",
            "rules": [{"topic": f"invoices-{number}", "to": "large"} for number in range(agents)],
        },
        "budgets": {"tokens": 1_000_000, "requests_per_minute": 60},
    }


def two_kilobytes(*, has_fractions: bool = True) -> dict[str, Any]:
    """Return a document of about 2 kB."""
    return configuration(5, has_fractions=has_fractions)


def quarter_megabyte(*, has_fractions: bool = True) -> dict[str, Any]:
    """Return a document of about 250 kB."""
    return configuration(600, has_fractions=has_fractions)


def small_patch() -> list[dict[str, Any]]:
    """Return a usual change: a test, a replaced prompt, a new grant, a route taken away."""
    return [
        {"op": "test", "path": "/routing/default", "value": "small"},
        {"op": "replace", "path": "/prompts/0/text", "value": SENTENCE},
        {"op": "add", "path": "/tool_grants/tool-new", "value": {"allow": ["read"], "limit": 10}},
        {"op": "remove", "path": "/routing/rules/1"},
    ]
