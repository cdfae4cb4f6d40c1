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


def test_retry_after_is_rounded_up_and_at_least_one() -> None:
    def seconds(value: float) -> int | None:
        return DatabaseUnavailable(retry_after_seconds=value, reason="x").retry_after_seconds

    assert [seconds(value) for value in (-3, 0, 0.2, 1, 1.01, 29.5)] == [1, 1, 1, 1, 2, 30]
