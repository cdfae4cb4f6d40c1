"""Vantage points outside the service: samplers that write evidence while a scenario runs, and readers of logs.

A probe never decides anything. Each call has a deadline; a call that fails is recorded as a row with ``error``, so
that "no answer" and "nobody looked" stay apart and neither is ever read as a pass.
"""

from chaos.probes.watch import Probes, freeze, running

__all__ = ["Probes", "freeze", "running"]
