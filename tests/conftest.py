"""What every test may use."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("generated documents")
    group.addoption("--documents", type=int, default=4_000, help="how many documents each comparison generates")
    group.addoption("--seed", type=int, default=8785, help="where their sequence starts")
    group.addoption("--lives", type=int, default=25, help="how many lives of proposals the model is compared with")
    group.addoption("--limit-minutes", type=int, default=1, help="how long each rate limit is measured, driven clock")
    group.addoption("--cases", type=int, default=20_000, help="how many requests the API's description is held to")
    group.addoption("--timed", type=int, default=2_000, help="how many refusals of each cause are timed")
    group.addoption("--defects", choices=("few", "all"), default="few", help="which planted defects are rehearsed")


@pytest.fixture
def limit_minutes(request: pytest.FixtureRequest) -> int:
    """How many minutes of the driven clock."""
    minutes: int = request.config.getoption("--limit-minutes")
    return minutes


@pytest.fixture
def cases(request: pytest.FixtureRequest) -> int:
    """How many requests to make of the API."""
    count: int = request.config.getoption("--cases")
    return count


@pytest.fixture
def documents(request: pytest.FixtureRequest) -> int:
    """How many documents to generate."""
    count: int = request.config.getoption("--documents")
    return count


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Where to start."""
    start: int = request.config.getoption("--seed")
    return start


@pytest.fixture
def lives(request: pytest.FixtureRequest) -> int:
    """How many lives of proposals to generate."""
    count: int = request.config.getoption("--lives")
    return count


@pytest.fixture
def timed(request: pytest.FixtureRequest) -> int:
    """How many refusals of each cause to time."""
    count: int = request.config.getoption("--timed")
    return count
