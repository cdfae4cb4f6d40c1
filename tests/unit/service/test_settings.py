import base64
import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, strategies
from hypothesis import settings as bounds

from app import settings
from app.errors import InvalidSettings
from app.settings import NAMES, PREFIX
from app.settings.contradictions import resolves
from app.settings.reading import read_environment
from tests.unit.service.settings_environment import (
    CANARY,
    PASSWORD,
    SEED,
    Environ,
    Wrong,
    environment,
    every_wrong,
    fields_of_the_service,
    pipe,
    write,
)

SERVICE = Path(__file__).resolve().parents[3] / "service"
REQUIRED = ("ENVIRONMENT", "REPLICA", "DATABASE_HOST", "DATABASE_PASSWORD_FILE", "API_KEY_PEPPER_FILE")
START_SECONDS = 2.0


@pytest.fixture
def environ(tmp_path: Path) -> Environ:
    return environment(tmp_path)


def problems(environ: Environ) -> tuple[str, ...]:
    with pytest.raises(InvalidSettings) as caught:
        settings.load(environ)
    return tuple(map(str, caught.value.problems))


def test_the_defaults_are_the_documented_numbers(environ: Environ) -> None:
    told = settings.load(environ)

    policy = told.database_policy
    assert (policy.backoff_initial_seconds, policy.backoff_max_seconds) == (1, 30)
    assert (policy.breaker_failures, policy.waiters_max, policy.wait_seconds) == (5, 64, 2)
    assert (policy.connections_min, policy.connections_max, policy.connect_timeout_seconds) == (2, 8, 2)
    assert told.http.request_deadline_seconds == 3


def test_a_statement_ends_before_the_request_does(environ: Environ) -> None:
    assert settings.load(environ).database_policy.statement_timeout_seconds == pytest.approx(2.8)
    patient = {**environ, f"{PREFIX}REQUEST_DEADLINE_SECONDS": "60"}
    assert settings.load(patient).database_policy.statement_timeout_seconds == 30  # FM02


EVERY_WRONG = tuple(every_wrong())


@pytest.mark.parametrize("wrong", EVERY_WRONG, ids=str)
def test_every_setting_is_refused_in_every_way_to_be_wrong(tmp_path: Path, wrong: Wrong) -> None:
    environ = environment(tmp_path) | {f"{PREFIX}MIGRATOR_PASSWORD_FILE": str(write(tmp_path, "owner"))}
    wrong.apply(environ, tmp_path)

    with pytest.raises(InvalidSettings) as caught:
        read_environment(wrong.model, environ)

    named = [problem for problem in caught.value.problems if problem.name == wrong.name]
    assert len(named) == 1
    assert named[0].what
    assert named[0].accepted
    for problem in map(str, caught.value.problems):
        assert len(problem.splitlines()) == 1
        assert CANARY not in problem


def test_the_table_of_wrong_values_covers_every_setting() -> None:
    assert {wrong.name for wrong in EVERY_WRONG} == NAMES
    assert fields_of_the_service() <= {wrong.field for wrong in EVERY_WRONG}


def test_every_problem_is_reported_at_once() -> None:
    reported = problems({f"{PREFIX}PORT": "0", f"{PREFIX}METRICS_PORTT": "1", f"{PREFIX}LOG_LEVEL": "loud"})

    named = {line.split(":")[0].removeprefix(PREFIX) for line in reported}
    assert named == {*REQUIRED, "PORT", "METRICS_PORTT", "LOG_LEVEL"}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"PORT": "8000", "METRICS_PORT": "8000"}, "METRICS_PORT"),
        ({"POOL_CONNECTIONS_MIN": "9"}, "POOL_CONNECTIONS_MIN"),
        ({"DATABASE_BACKOFF_MAX_SECONDS": "0.5"}, "DATABASE_BACKOFF_INITIAL_SECONDS"),
        ({"WAITING_ROOM_WAIT_SECONDS": "3"}, "WAITING_ROOM_WAIT_SECONDS"),
        ({"POOL_WAIT_SECONDS": "3"}, "POOL_WAIT_SECONDS"),
        ({"LOCK_TIMEOUT_SECONDS": "2.8"}, "LOCK_TIMEOUT_SECONDS"),
        ({"QUERY_TIMEOUT_SECONDS": "1"}, "LOCK_TIMEOUT_SECONDS"),
        ({"HEALTH_PROBE_INTERVAL_SECONDS": "1.3"}, "HEALTH_PROBE_TIMEOUT_SECONDS"),
        ({"API_KEY_FRESH_SECONDS": "901"}, "API_KEY_FRESH_SECONDS"),
        ({"LOG_LEVEL": "debug"}, "LOG_LEVEL"),
        ({"LOG_ORIGIN": "firewall.example/log"}, "LOG_ORIGIN"),
        ({"ACTUATOR_HOSTS": "actuator.example"}, "ACTUATOR_HOSTS"),
    ],
)
def test_settings_that_are_wrong_together_are_named(environ: Environ, change: dict[str, str], name: str) -> None:
    environ.update({PREFIX + key: value for key, value in change.items()})

    (problem,) = problems(environ)

    assert problem.startswith(f"{PREFIX}{name}: contradicts another setting; accepted: ")


@given(numbers=strategies.tuples(*(strategies.floats(0.05, 10).map(lambda x: round(x, 2)) for _ in range(5))))
@bounds(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_accepted_has_timeouts_that_nest(tmp_path: Path, numbers: tuple[float, ...]) -> None:
    names = ("REQUEST_DEADLINE", "QUERY_TIMEOUT", "LOCK_TIMEOUT", "WAITING_ROOM_WAIT", "POOL_WAIT")
    chosen = {f"{PREFIX}{name}_SECONDS": str(value) for name, value in zip(names, numbers, strict=True)}

    try:
        told = settings.load(environment(tmp_path) | chosen)
    except InvalidSettings:
        return

    policy, deadline = told.database_policy, told.http.request_deadline_seconds
    assert deadline > policy.statement_timeout_seconds > policy.lock_timeout_seconds
    assert deadline > max(policy.wait_seconds, policy.pool_wait_seconds)


@pytest.mark.parametrize("field", ["DATABASE_PASSWORD_FILE", "API_KEY_PEPPER_FILE", "ACTUATOR_KEY_FILE"])
def test_a_monotonous_secret_is_refused_in_production_only(environ: Environ, tmp_path: Path, field: str) -> None:
    environ[PREFIX + field] = str(write(tmp_path, "monotonous", "abc" * 20))

    (problem,) = problems(environ)
    settings.load({**environ, f"{PREFIX}ENVIRONMENT": "staging"})

    assert problem.startswith(f"{PREFIX}{field}: ")
    assert "abc" not in problem


def test_a_key_of_zeros_is_refused_in_production(environ: Environ, tmp_path: Path) -> None:
    zeros = base64.b64encode(bytes(32)).decode()
    environ[f"{PREFIX}SERVICE_KEY_FILE"] = str(write(tmp_path, "key", zeros))

    (problem,) = problems(environ)

    assert problem.startswith(f"{PREFIX}SERVICE_KEY_FILE: ")


def test_one_secret_for_two_things_is_refused_in_production(environ: Environ) -> None:
    environ[f"{PREFIX}API_KEY_PEPPER_FILE"] = environ[f"{PREFIX}DATABASE_PASSWORD_FILE"]

    (problem,) = problems(environ)

    assert problem.startswith(f"{PREFIX}API_KEY_PEPPER_FILE: ")
    assert "DATABASE_PASSWORD_FILE" in problem


def test_a_short_password_is_refused_in_production_only(environ: Environ, tmp_path: Path) -> None:
    environ[f"{PREFIX}DATABASE_PASSWORD_FILE"] = str(write(tmp_path, "short-password", PASSWORD[:15]))
    assert len(problems(environ)) == 1
    environ[f"{PREFIX}ENVIRONMENT"] = "development"
    settings.load(environ)


def test_a_pipe_is_no_secret_file_and_is_not_waited_for(environ: Environ, tmp_path: Path) -> None:
    environ[f"{PREFIX}DATABASE_PASSWORD_FILE"] = str(pipe(tmp_path))
    began = time.monotonic()

    (problem,) = problems(environ)

    assert "not a regular file" in problem
    assert time.monotonic() - began < START_SECONDS


@pytest.mark.parametrize("name", ["DATABASE_HOST", "HOST"])
def test_a_host_that_does_not_exist_is_named(environ: Environ, name: str) -> None:
    environ[PREFIX + name] = f"{CANARY}.invalid"

    with pytest.raises(InvalidSettings) as caught:
        settings.load(environ, resolve=lambda host: CANARY not in host)

    (problem,) = map(str, caught.value.problems)
    assert problem.startswith(f"{PREFIX}{name}: does not resolve; accepted: ")
    assert CANARY not in problem


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost"])
def test_addresses_and_known_names_resolve(host: str) -> None:
    assert resolves(host)


@pytest.mark.parametrize("host", ["two..dots", "x" * 64 + ".example"])
def test_a_name_that_cannot_be_one_does_not_resolve(host: str) -> None:
    assert not resolves(host)


@pytest.mark.parametrize(
    ("number", "exists"),
    [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True), (socket.EAI_FAIL, True)],
    ids=["the resolver says no", "it cannot be reached", "it is broken"],
)
def test_only_a_resolver_that_says_no_makes_a_host_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, number: int, *, exists: bool
) -> None:
    def answer(*_: object) -> None:
        raise socket.gaierror(number, "said by the resolver of this test")

    monkeypatch.setattr(socket, "getaddrinfo", answer)

    assert resolves("database.example") is exists


def test_a_secret_never_shows_in_a_repr(environ: Environ) -> None:
    assert PASSWORD not in repr(settings.load(environ))


def test_names_of_others_and_of_our_commands_are_no_typos(environ: Environ) -> None:
    settings.load({**environ, "FIREWALLED": "x", f"{PREFIX}MIGRATOR_USER": "firewall_owner"})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("FIREWALL_POOL_CONECTIONS_MAX", "FIREWALL_POOL_CONNECTIONS_MAX"),
        ("FIREWALL_DATABASE_PASSWORD", "FIREWALL_DATABASE_PASSWORD_FILE"),
        ("firewall_port", "FIREWALL_PORT"),
    ],
)
def test_a_misspelt_name_is_refused_and_the_nearest_is_suggested(environ: Environ, name: str, meant: str) -> None:
    (problem,) = problems({**environ, name: CANARY})

    assert problem == f"{name}: unknown; accepted: a name from service/README.md, perhaps {meant}"


def test_a_name_like_no_other_has_no_suggestion(environ: Environ) -> None:
    (problem,) = problems({**environ, f"{PREFIX}XYZZY": "1"})

    assert "perhaps" not in problem


def run(environ: Mapping[str, str], *module: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run a module of the service to its end; return with it the seconds of processor time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", *module],
        env={"PYTHONPATH": str(SERVICE), **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


WRONG_PROCESSES = {
    "nothing at all": dict.fromkeys(REQUIRED),
    "wrong type": {"POOL_CONNECTIONS_MAX": CANARY},
    "out of range": {"PORT": "0"},
    "misspelt, with a line break": {"TYPO\n": CANARY},
    "contradiction": {"LOCK_TIMEOUT_SECONDS": "20"},
    "no such file": {"API_KEY_PEPPER_FILE": f"/nowhere/{CANARY}"},
    "debugging": {"LOG_LEVEL": "debug"},
}


@pytest.mark.parametrize("change", WRONG_PROCESSES.values(), ids=[*WRONG_PROCESSES])
def test_the_process_says_it_in_lines_and_exits_with_78_in_time(
    environ: Environ, change: dict[str, str | None]
) -> None:
    wrong = {PREFIX + name: value for name, value in change.items()}
    given = {name: value for name, value in (environ | wrong).items() if value is not None}

    done, took = run(given, "app")

    # By the clock it is the scenario that measures it; here other tests may have the processors.
    assert took <= START_SECONDS / 2
    assert done.returncode == 78
    lines, events = done.stderr.splitlines(), [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(change)
    assert {line.split(":")[0] for line in lines} == {name.replace("\n", "?") for name in wrong}
    assert [f"{one['setting']}: {one['problem']}; accepted: {one['accepted']}" for one in events] == lines
    assert {one["event"] for one in events} == {"setting_refused"}
    for secret in (CANARY, PASSWORD):
        assert secret not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_an_address_that_is_not_this_hosts_is_a_wrong_setting(environ: Environ) -> None:
    done, _ = run({**environ, f"{PREFIX}HOST": "192.0.2.1"}, "app")

    assert done.returncode == 78
    assert done.stderr.startswith(f"{PREFIX}HOST: not an address of this host; accepted: ")


def test_what_is_in_force_is_shown_with_its_source_and_without_secrets(environ: Environ) -> None:
    done, _ = run({**environ, f"{PREFIX}PORT": "8001"}, "app.settings", "show", "--json")
    told = json.loads(done.stdout)
    plain, _ = run(environ, "app.settings")

    assert done.returncode == plain.returncode == 0
    assert told[f"{PREFIX}PORT"] == {"value": "8001", "source": "environment"}
    assert told[f"{PREFIX}BREAKER_FAILURES"] == {"value": "5", "source": "default"}
    assert told[f"{PREFIX}DATABASE_PASSWORD_FILE"]["value"].startswith("(secret, from /")
    assert set(told) == {PREFIX + field.upper() for field in fields_of_the_service()}
    assert len(plain.stdout.splitlines()) == len(told)
    assert PASSWORD not in done.stdout + plain.stdout


def test_what_is_wrong_is_shown_as_the_service_itself_would(environ: Environ) -> None:
    done, _ = run({**environ, f"{PREFIX}PORT": CANARY}, "app.settings")

    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == f"{PREFIX}PORT: not acceptable; accepted: a whole number from 1 to 65535\n"


def test_another_word_is_a_usage_error() -> None:
    done, _ = run({}, "app.settings", "print")

    assert done.returncode == 64
    assert done.stderr.startswith("usage: ")


def test_the_readme_has_the_reference_as_it_is_generated() -> None:
    done, _ = run({}, "app.settings", "reference")

    assert [name for name in sorted(NAMES) if f"| `{name}` |" not in done.stdout] == []
    assert done.stdout in (SERVICE / "README.md").read_text(encoding="utf-8")


def test_the_log_is_off_by_default_and_on_with_its_three_settings(environ: Environ, tmp_path: Path) -> None:
    assert settings.load(environ).log is None

    told = settings.load(
        {
            **environ,
            f"{PREFIX}LOG_KEY_FILE": str(write(tmp_path, "log-key", SEED + "\n")),
            f"{PREFIX}LOG_ORIGIN": "firewall.example/log",
            f"{PREFIX}LOG_WATERMARK_FILE": str(tmp_path / "watermark"),
        }
    ).log

    assert told is not None
    assert told.seed.reveal() == bytes(range(32))
    assert (told.batch_entries_max, told.batch_seconds, told.checkpoint_seconds) == (256, 0.2, 1)
