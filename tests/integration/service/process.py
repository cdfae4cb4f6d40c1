"""The service as a process of its own: `python -m app`, with real sockets."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from compose.ports import Ports
from tests.integration.service.running import SERVICE, Server


class Replica:
    """A process that serves, or is about to; ``http`` asks it."""

    def __init__(self, process: subprocess.Popen[str], port: int, metrics_port: int) -> None:
        self.process = process
        self.port = port
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        self.metrics = f"http://127.0.0.1:{metrics_port}/metrics"

    def await_status(self, path: str, status: int, seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.http.get(path).status_code == status:
                    return
            except httpx.TransportError:
                assert self.process.poll() is None, f"ended with {self.process.returncode}"
            assert time.monotonic() < deadline, f"{path} was not {status}"

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@contextmanager
def replica(
    server: Server, *, service: Path = SERVICE, output: int = subprocess.PIPE, **more: str
) -> Iterator[Replica]:
    """Run ``service`` until the block ends. ``output``: where its log goes; nobody empties a pipe before it ends."""
    free = Ports.free()
    environ = server.environ(
        ENVIRONMENT="development",
        REPLICA="replica-1",
        PORT=str(free.replicas[0]),
        METRICS_PORT=str(free.replicas_metrics[0]),
        SHUTDOWN_DRAIN_SECONDS="0",
        **more,
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "app"],
        env={**environ, "PYTHONPATH": str(service)},
        stdout=output,
        stderr=output,
        text=True,
    )
    made = Replica(process, free.replicas[0], free.replicas_metrics[0])
    try:
        yield made
    finally:
        made.http.close()
        process.kill()
        process.wait(10)
