import base64
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app import settings
from app.errors import InvalidSettings
from app.settings import NAMES, PREFIX

SERVICE = Path(__file__).resolve().parents[3] / "service"
REQUIRED = ("ENVIRONMENT", "REPLICA", "DATABASE_HOST", "DATABASE_PASSWORD_FILE", "API_KEY_PEPPER_FILE")
MIGRATOR_ONLY = ("MIGRATOR_USER", "MIGRATOR_PASSWORD_FILE", "MIGRATION_LOCK_WAIT_SECONDS")
SECRET = "correct-horse-battery-staple-of-32-bytes"  # noqa: S105 - of this test

Environ = dict[str, str]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def secret(name: str, text: str = SECRET, mode: int = 0o600) -> Path:
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
        return path

    return secret


@pytest.fixture
def environ(write: Write) -> Environ:
    return {
        "PATH": "/bin",
        f"{PREFIX}ENVIRONMENT": "production",
        f"{PREFIX}REPLICA": "replica-1",
        f"{PREFIX}DATABASE_HOST": "127.0.0.1",
        f"{PREFIX}DATABASE_PASSWORD_FILE": str(write("password")),
        f"{PREFIX}API_KEY_PEPPER_FILE": str(write("pepper")),
    }


def problems(environ: Environ) -> tuple[str, ...]:
    with pytest.raises(InvalidSettings) as caught:
        settings.load(environ)
    return caught.value.problems


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


def test_every_problem_is_reported_at_once() -> None:
    reported = problems({f"{PREFIX}PORT": "0", f"{PREFIX}METRICS_PORTT": "1", f"{PREFIX}LOG_LEVEL": "loud"})

    named = {line.split(":")[0].removeprefix(PREFIX) for line in reported}
    assert named == {*REQUIRED, "PORT", "METRICS_PORTT", "LOG_LEVEL"}


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_one_is_named(environ: Environ, name: str) -> None:
    del environ[PREFIX + name]

    (problem,) = problems(environ)

    assert problem.startswith(f"{PREFIX}{name}: missing; accepted: ")


SERVICE_NAMES = sorted(name.removeprefix(PREFIX) for name in NAMES if name.removeprefix(PREFIX) not in MIGRATOR_ONLY)


@pytest.mark.parametrize("text", [pytest.param("", id="empty"), pytest.param("   ", id="blank")])
@pytest.mark.parametrize("name", SERVICE_NAMES)
def test_an_empty_or_blank_one_is_named(environ: Environ, name: str, text: str) -> None:
    environ[PREFIX + name] = text

    assert any(problem.startswith(f"{PREFIX}{name}: ") for problem in problems(environ))


@pytest.mark.parametrize("text", ["true", "1,5", "0x10", "1e400", "nan", "-1", "99999999", "1; DROP TABLE", "é"])
@pytest.mark.parametrize("name", [n for n in SERVICE_NAMES if re.search("SECONDS|PORT|_M(AX|IN)$|FAILURES", n)])
def test_a_number_that_is_none_or_out_of_range_is_named(environ: Environ, name: str, text: str) -> None:
    environ[PREFIX + name] = text

    assert any(problem.startswith(f"{PREFIX}{name}: ") for problem in problems(environ))


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
        ({"REPLICA": "Replica 1"}, "REPLICA"),
        ({"ENVIRONMENT": "prod"}, "ENVIRONMENT"),
        ({"ALLOWED_HOSTS": "a,,b"}, "ALLOWED_HOSTS"),
        ({"DATABASE_NAME": "x y"}, "DATABASE_NAME"),
    ],
)
def test_settings_that_are_wrong_alone_or_together_are_named(
    environ: Environ, change: dict[str, str], name: str
) -> None:
    environ.update({PREFIX + key: value for key, value in change.items()})

    (problem,) = problems(environ)

    assert problem.startswith(f"{PREFIX}{name}: ")


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        pytest.param("", 0o600, id="empty"),
        pytest.param("\n", 0o600, id="a line break"),
        pytest.param("changeme", 0o600, id="well known"),
        pytest.param(SECRET, 0o640, id="the group may read it"),
        pytest.param(SECRET, 0o604, id="others may read it"),
        pytest.param("x" * 5000, 0o600, id="too long"),
    ],
)
@pytest.mark.parametrize("name", ["DATABASE_PASSWORD_FILE", "API_KEY_PEPPER_FILE"])
def test_an_unfit_secret_is_named_and_never_shown(
    environ: Environ, write: Write, name: str, text: str, mode: int
) -> None:
    environ[PREFIX + name] = str(write("unfit", text, mode))

    (problem,) = problems(environ)

    assert problem.startswith(f"{PREFIX}{name}: ")
    assert "changeme" not in problem
    assert SECRET not in problem


@pytest.mark.parametrize("path", ["/nowhere/at/all", "/", "/dev/null"])
def test_a_secret_file_that_is_none_is_named(environ: Environ, path: str) -> None:
    environ[f"{PREFIX}DATABASE_PASSWORD_FILE"] = path

    assert len(problems(environ)) == 1


def test_short_secrets_are_refused_where_they_matter(environ: Environ, write: Write) -> None:
    environ[f"{PREFIX}API_KEY_PEPPER_FILE"] = str(write("short-pepper", "x" * 31))
    assert len(problems(environ)) == 1
    environ[f"{PREFIX}API_KEY_PEPPER_FILE"] = str(write("pepper"))
    environ[f"{PREFIX}DATABASE_PASSWORD_FILE"] = str(write("short-password", "x" * 15))
    assert len(problems(environ)) == 1
    environ[f"{PREFIX}ENVIRONMENT"] = "development"
    settings.load(environ)


def test_a_secret_in_the_wrong_variable_is_not_shown(environ: Environ) -> None:
    environ[f"{PREFIX}PORT"] = SECRET
    environ[f"{PREFIX}DATABASE_HOST"] = SECRET + "!"

    assert not any(SECRET in problem for problem in problems(environ))


def test_a_secret_never_shows_in_a_repr(environ: Environ) -> None:
    assert SECRET not in repr(settings.load(environ))


def test_names_of_others_and_of_our_commands_are_no_typos(environ: Environ) -> None:
    settings.load({**environ, "FIREWALLED": "x", f"{PREFIX}MIGRATOR_USER": "firewall_owner"})


def test_a_lower_case_spelling_is_a_typo(environ: Environ) -> None:
    (problem,) = problems({**environ, "firewall_port": "8000"})

    assert problem.startswith("firewall_port: unknown")


def test_the_process_says_it_in_lines_and_exits_with_78() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app"],
        env={"PYTHONPATH": str(SERVICE), f"{PREFIX}PORT": "x", f"{PREFIX}TYPO\n": "x"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    lines = done.stderr.splitlines()
    assert done.returncode == 78
    assert len(lines) == len(REQUIRED) + 2
    assert all(line.startswith(PREFIX) for line in lines)
    assert done.stdout == ""


def test_every_setting_is_explained_in_the_readme() -> None:
    readme = (SERVICE / "README.md").read_text()

    assert [name for name in sorted(NAMES) if f"`{name}`" not in readme] == []


def test_the_log_is_off_by_default_and_on_with_its_three_settings(environ: Environ, write: Write) -> None:
    assert settings.load(environ).log is None

    seed = base64.b64encode(bytes(range(32))).decode()
    told = settings.load(
        {
            **environ,
            f"{PREFIX}LOG_KEY_FILE": str(write("log-key", seed + "\n")),
            f"{PREFIX}LOG_ORIGIN": "firewall.example/log",
            f"{PREFIX}LOG_WATERMARK_FILE": str(write("here").with_name("watermark")),
        }
    ).log

    assert told is not None
    assert told.seed.reveal() == bytes(range(32))
    assert (told.batch_entries_max, told.batch_seconds, told.checkpoint_seconds) == (256, 0.2, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_ORIGIN", "firewall.example/log"),
        ("LOG_WATERMARK_FILE", "/tmp/watermark"),  # noqa: S108 - never written
        ("LOG_ORIGIN", "two words"),
        ("LOG_ORIGIN", "a+b"),
        ("LOG_WATERMARK_FILE", "relative"),
        ("LOG_WATERMARK_FILE", "/nowhere/at/all/watermark"),
        ("LOG_WATERMARK_FILE", "/tmp"),  # noqa: S108 - never written
    ],
)
def test_half_a_log_or_an_unfit_one_is_refused(environ: Environ, name: str, value: str) -> None:
    (problem,) = problems({**environ, f"{PREFIX}{name}": value})

    assert problem.startswith(f"{PREFIX}LOG_")


@pytest.mark.parametrize("content", ["", "short", "A" * 43, "A" * 48, base64.b64encode(bytes(33)).decode()])
def test_a_log_key_that_is_none_is_refused(environ: Environ, write: Write, content: str) -> None:
    reported = problems({**environ, f"{PREFIX}LOG_KEY_FILE": str(write("log-key", content))})

    assert reported[0].startswith(f"{PREFIX}LOG_KEY_FILE: not acceptable; accepted: ")
