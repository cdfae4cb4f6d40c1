import msgspec
import pytest

from app import errors
from app.api import problems
from app.errors import (
    DatabaseUnavailable,
    FirewallError,
    Flaw,
    InvalidProposal,
    InvalidRequest,
    MalformedBody,
    PatchFailed,
    RateLimited,
    TimeLocked,
)


def all_errors() -> list[FirewallError]:
    made: list[FirewallError] = [
        InvalidRequest("No."),
        MalformedBody([Flaw("/a", "syntax", "no")]),
        InvalidProposal([]),
        PatchFailed(0, "missing", "/a", "no"),
        DatabaseUnavailable(retry_after_seconds=1.2, reason="full"),
        TimeLocked(retry_after_seconds=1.2),
        RateLimited(0.24),
    ]
    return made + [
        kind([]) if issubclass(kind, errors._FlawedBody) else kind()
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, FirewallError)
        and not kind.__name__.startswith("_")
        and kind not in {type(one) for one in made}
    ]


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: type(error).__name__)
def test_every_error_of_ours_is_a_problem(error: FirewallError) -> None:
    status, headers, body = problems.render(error, "r" * 24)

    problem = msgspec.json.decode(body, type=problems.Problem)
    assert headers["content-type"] == "application/problem+json"
    assert (problem.status, problem.code, problem.request_id) == (status, error.code, "r" * 24)
    assert problem.type == f"urn:amgf:problem:{error.code}"
    assert (status == 503) <= ("retry-after" in headers)
    assert (status == 401) == ("www-authenticate" in headers)


@pytest.mark.parametrize(("wait", "header"), [(0.000_000_4, "1"), (0.24, "1"), (1.0, "1"), (1.000_001, "2")])
def test_a_wait_is_told_in_whole_seconds_and_exactly_and_never_too_short(wait: float, header: str) -> None:
    status, headers, body = problems.render(RateLimited(wait), "r" * 24)

    problem = msgspec.json.decode(body, type=problems.Problem)
    assert (status, headers["retry-after"]) == (429, header)
    assert problem.wait_seconds is not None
    assert wait <= problem.wait_seconds < wait + 0.000_002


def test_retry_after_is_rounded_up_and_at_least_one() -> None:
    def seconds(value: float) -> int | None:
        return DatabaseUnavailable(retry_after_seconds=value, reason="x").retry_after_seconds

    assert [seconds(value) for value in (-3, 0, 0.2, 1, 1.01, 29.5)] == [1, 1, 1, 1, 2, 30]
