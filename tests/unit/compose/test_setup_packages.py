"""System packages: only what is missing, only where we may, and no service of theirs left running."""

import os
import shutil
from pathlib import Path

import pytest

from compose.programs import Program
from compose.setup.packages import SystemPackages, find_manager, find_rights
from compose.setup.progress import Progress, SetupFailed
from compose.setup.services import MARK

# Names that no machine has: looking for them must not find the real ones.
REQUIRED = Program(name="firewall-test-proxy", purpose="the front", package="haproxy")
SECOND = Program(name="firewall-test-alerts", purpose="alerts", package="alertmanager")
OPTIONAL = Program(name="firewall-test-filter", purpose="packets dropped", package="nftables", required=False)
BRINGS = {"haproxy": REQUIRED.name, "prometheus-alertmanager": SECOND.name, "nftables": OPTIONAL.name}


class Machine:
    """A system of its own below a folder: a PATH with a package manager that stands in for Debian's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "bin"
        self.log = root / "log"
        self.policy = root / "usr/sbin/policy-rc.d"
        for folder in (self.path, self.policy.parent, root / "lib/systemd/system", root / "tools"):
            folder.mkdir(parents=True)
        for command in ("sh", "env", "install", "rm", "chmod", "touch", "grep", "true"):
            (self.path / command).symlink_to(shutil.which(command) or "/bin/true")
        self.program("systemctl", f'echo "systemctl $*" >>"{self.log}"')
        if os.geteuid() != 0:
            self.program("sudo", 'shift; exec "$@"')

    def program(self, name: str, script: str) -> None:
        (self.path / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.path / name).chmod(0o755)

    def apt(self, *, refuses: str = "nothing") -> None:
        """An apt-get that says what it was asked, and whether a policy was in place, and brings programs and units."""
        brings = "\n".join(
            f"{package}) printf '#!/bin/sh\\n' >{self.path}/{name}; chmod 755 {self.path}/{name};"
            f" touch {self.root}/lib/systemd/system/{package}.service ;;"
            for package, name in BRINGS.items()
        )
        self.program(
            "apt-get",
            f"""echo "apt-get $* ($DEBIAN_FRONTEND)" >>{self.log}
grep -qs 101 {self.policy} && echo policy >>{self.log}
for package; do [ "$package" = {refuses} ] && {{ echo "no such package: $package"; exit 100; }}; done
for package; do case $package in
{brings}
esac; done""",
        )

    def packages(self, *programs: Program) -> SystemPackages:
        return SystemPackages(self.root / "tools", {program.name: program for program in programs}, self.root)

    def asked(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def installs(self) -> list[str]:
        return [line.partition("--no-install-recommends ")[2] for line in self.asked() if " install " in line]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setenv("PATH", str(machine.path))
    return machine


@pytest.fixture
def progress(tmp_path: Path) -> Progress:
    return Progress(tmp_path / "setup.log")


def test_what_is_missing_is_installed_at_once_and_what_may_be_missing_apart(
    machine: Machine, progress: Progress
) -> None:
    machine.apt()
    packages = machine.packages(REQUIRED, SECOND, OPTIONAL)
    assert not packages.is_done()

    packages.run(progress)

    assert machine.installs() == ["haproxy prometheus-alertmanager (noninteractive)", "nftables (noninteractive)"]
    assert "update" in machine.asked()[0]
    assert packages.is_done()


def test_what_is_there_is_not_installed_again(machine: Machine, progress: Progress) -> None:
    machine.apt()
    machine.program(REQUIRED.name, "")

    machine.packages(REQUIRED, SECOND).run(progress)

    assert machine.installs() == ["prometheus-alertmanager (noninteractive)"]


def test_nothing_may_start_while_packages_are_installed_and_the_policy_goes_again(
    machine: Machine, progress: Progress
) -> None:
    machine.apt()

    machine.packages(REQUIRED).run(progress)

    installed = next(number for number, line in enumerate(machine.asked()) if " install " in line)
    assert machine.asked()[installed + 1] == "policy"
    assert not machine.policy.exists()


def test_the_policy_goes_also_when_the_installation_fails(machine: Machine, progress: Progress) -> None:
    machine.apt(refuses="haproxy")

    with pytest.raises(SetupFailed):
        machine.packages(REQUIRED).run(progress)

    assert "policy" in machine.asked()
    assert not machine.policy.exists()


@pytest.mark.parametrize(("text", "stays"), [("#!/bin/sh\nexit 101\n", True), (f"#!/bin/sh\n# {MARK}\n", False)])
def test_a_policy_of_the_machine_stays_and_one_that_a_killed_run_left_goes(
    text: str, *, stays: bool, machine: Machine, progress: Progress
) -> None:
    machine.apt()
    machine.policy.write_text(text)

    machine.packages(REQUIRED).run(progress)

    assert machine.policy.exists() is stays


def test_services_that_came_along_are_switched_off_and_no_others(machine: Machine, progress: Progress) -> None:
    machine.apt()
    (machine.root / "lib/systemd/system/prometheus-alertmanager.service").touch()

    machine.packages(REQUIRED, SECOND).run(progress)

    assert [line for line in machine.asked() if "systemctl" in line] == ["systemctl disable haproxy"]


def test_services_are_stopped_too_where_systemd_runs(machine: Machine, progress: Progress) -> None:
    machine.apt()
    (machine.root / "run/systemd/system").mkdir(parents=True)

    machine.packages(REQUIRED).run(progress)

    assert "systemctl disable --now haproxy" in machine.asked()


def test_a_failing_list_update_does_not_keep_packages_from_being_installed(
    machine: Machine, progress: Progress
) -> None:
    machine.apt(refuses="update")

    machine.packages(REQUIRED).run(progress)

    assert machine.installs() == ["haproxy (noninteractive)"]


def test_an_optional_program_that_cannot_be_had_warns_once_and_is_not_tried_again(
    machine: Machine, progress: Progress, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.apt(refuses="nftables")
    packages = machine.packages(OPTIONAL)

    packages.run(progress)

    assert f"going without {OPTIONAL.name}" in capsys.readouterr().err
    assert packages.is_done()


def test_a_required_program_that_cannot_be_had_is_named_with_the_command(machine: Machine, progress: Progress) -> None:
    machine.apt(refuses="haproxy")

    with pytest.raises(SetupFailed) as failed:
        machine.packages(REQUIRED).run(progress)

    assert str(failed.value) == (
        "firewall-test-proxy is missing and could not be installed. "
        "To install: sudo apt-get install --yes --no-install-recommends haproxy"
    )


def test_without_any_package_manager_the_programs_are_named(machine: Machine, progress: Progress) -> None:
    with pytest.raises(SetupFailed, match=r"firewall-test-proxy, firewall-test-alerts are missing and cannot be"):
        machine.packages(REQUIRED, SECOND).run(progress)


@pytest.mark.parametrize(
    ("sudo", "rights"),
    [("exit 0", ("sudo", "-n")), ("echo a password is required >&2; exit 1", None), (None, None)],
    ids=["without a password", "with a password", "no sudo"],
)
def test_someone_who_is_not_root_may_install_with_a_sudo_that_asks_for_nothing(
    sudo: str | None, rights: tuple[str, ...] | None, machine: Machine
) -> None:
    machine.apt()
    (machine.path / "sudo").unlink(missing_ok=True)
    if sudo is not None:
        machine.program("sudo", sudo)

    manager = find_manager()
    assert manager is not None
    assert find_rights(manager, user_id=1000) == rights


def test_the_plan_is_the_command_that_would_run(machine: Machine) -> None:
    machine.apt()

    assert machine.packages(REQUIRED, OPTIONAL).plan() == (
        "sudo apt-get install --yes --no-install-recommends haproxy nftables"
    )
    assert machine.asked() == []
