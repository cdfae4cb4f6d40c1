"""Prometheus and Alertmanager for one stack, with the generated rules and routes of its profile."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

import slo.alertmanager
import slo.generate
from compose import part, programs
from compose.ports import Ports
from compose.processes import PartFailed
from slo.profiles import Profile

SERVICE: Final = "firewall"
FIRST_SCRAPE_SECONDS: Final = 10.0
RELOAD_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.1
RESEND_EVALUATIONS: Final = 4
"""An alert is sent again after so many evaluations (1 min by default), and Alertmanager forgets it after four times
that. After a start or a reload Prometheus knows no Alertmanager for up to 5 s; what it sent to nobody then comes late,
not never."""


class Prometheus(part.Part):
    """Scrapes the parts and evaluates the alerts. Replicas are found through a file that their supervisor writes."""

    name = "Prometheus"

    def __init__(
        self,
        folder: Path,
        *,
        ports: Ports,
        log: Path,
        profile: Profile,
        environment: str,
        run_label: str,
        staging: bool = False,
    ) -> None:
        """Take what goes into its configuration; `run_label` tells this stack's alerts from any other's."""
        super().__init__(log=log)
        self.address = f"http://127.0.0.1:{ports.prometheus}"
        self.targets_file = folder / "replicas.json"
        self._folder = folder
        self._ports = ports
        self._profile = profile
        self._environment_label = environment
        self._staging = staging
        self._run_label = run_label
        self._with_rules = False

    async def answers(self) -> bool:
        """Say whether it is ready to scrape and to be asked."""
        return await part.answers_ok(f"{self.address}/-/ready")

    async def load_rules(self, targets: int) -> None:
        """Wait until so many targets were read with success, then begin to evaluate the alerts.

        Prometheus reads its first target some 5 s after its start. Rules that ask for what is absent would fire in
        that time, and every stack would begin with a page.

        Raises:
            PartFailed: the targets were not read in time, or the rules were not taken.
        """
        deadline = time.monotonic() + FIRST_SCRAPE_SECONDS + self._profile.scrape_interval_seconds
        await self._until(lambda: self._count("count(up == 1)"), targets, deadline, "did not read its targets")
        self._with_rules = True
        self._write_configuration()
        if self.pid is not None:
            os.kill(self.pid, signal.SIGHUP)
        await self._until(self._rule_groups, 1, time.monotonic() + RELOAD_SECONDS, "did not take its rules")

    async def delivers(self) -> bool:
        """Say whether it knows the Alertmanager: only some 5 s after `load_rules`; an alert sent before comes late."""
        return bool((await self._api("/api/v1/alertmanagers")).get("activeAlertmanagers"))

    async def _until(self, look: Callable[[], Awaitable[int]], least: int, deadline: float, complaint: str) -> None:
        began = time.monotonic()
        while await look() < least:
            if time.monotonic() > deadline:
                raise PartFailed(self.name, complaint, deadline_seconds=round(deadline - began, 1), log=self.log)
            await asyncio.sleep(LOOK_SECONDS)

    async def _count(self, expression: str) -> int:
        result = (await self._api("/api/v1/query", query=expression)).get("result") or []
        return int(result[0]["value"][1]) if result else 0

    async def _rule_groups(self) -> int:
        return len((await self._api("/api/v1/rules")).get("groups") or [])

    async def _api(self, path: str, **parameters: str) -> dict[str, Any]:
        try:
            async with part.client(self.address) as http:
                answer = await http.get(path, params=parameters)
            return answer.json().get("data") or {}
        except (httpx.HTTPError, ValueError):
            return {}

    def _write_configuration(self) -> Path:
        configuration = self._folder / "prometheus.yml"
        configuration.write_text(
            part.render(
                "prometheus.yml.j2",
                ports=self._ports,
                profile=self._profile,
                environment=self._environment_label,
                staging=self._staging,
                service=SERVICE,
                run_label=self._run_label,
                rules=[slo.generate.rules_file(self._profile)] if self._with_rules else [],
                targets_file=self.targets_file,
            )
        )
        return configuration

    def _command(self) -> Sequence[str | Path]:
        self._folder.mkdir(parents=True, exist_ok=True)
        configuration = self._write_configuration()
        if not self.targets_file.exists():
            write_targets(self.targets_file, {}, environments={})
        return [
            programs.find("prometheus"),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            "--storage.tsdb.retention.time=1d",
            f"--web.listen-address=127.0.0.1:{self._ports.prometheus}",
            f"--query.lookback-delta={self._profile.durations['lookback']}",
            f"--rules.alert.resend-delay={RESEND_EVALUATIONS * self._profile.evaluation_interval_seconds:g}s",
            "--log.level=warn",
        ]


class Alertmanager(part.Part):
    """Routes, inhibits and delivers the alerts to the harness's receiver."""

    name = "Alertmanager"

    def __init__(self, folder: Path, *, ports: Ports, log: Path, profile: Profile) -> None:
        """Take what goes into its configuration."""
        super().__init__(log=log)
        self.address = f"http://127.0.0.1:{ports.alertmanager}"
        self._folder = folder
        self._ports = ports
        self._profile = profile

    async def answers(self) -> bool:
        """Say whether it takes alerts."""
        return await part.answers_ok(f"{self.address}/-/ready")

    def _command(self) -> Sequence[str | Path]:
        self._folder.mkdir(parents=True, exist_ok=True)
        configuration = self._folder / "alertmanager.yml"
        configuration.write_text(slo.alertmanager.render(self._profile, f"http://127.0.0.1:{self._ports.receiver}"))
        return [
            programs.find("alertmanager"),
            f"--config.file={configuration}",
            f"--storage.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._ports.alertmanager}",
            "--cluster.listen-address=",  # alone: no gossip, no port for it
            "--log.level=info",
        ]


def write_targets(path: Path, pods: Mapping[str, int], *, environments: Mapping[str, str]) -> None:
    """Tell Prometheus, in one step, which replicas there are, on which ports their metrics are, and whose they are."""
    groups: Iterable[dict[str, object]] = (
        {"targets": [f"127.0.0.1:{port}"], "labels": {"service": SERVICE, "env": environments[pod], "pod": pod}}
        for pod, port in sorted(pods.items())
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(list(groups)))
    beside.rename(path)
