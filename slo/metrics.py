"""The series that rules may read: type, job, labels, bucket limits."""

from functools import cache
from typing import Literal

import msgspec

from slo.files import SPECIFICATION, InvalidSpecificationError, read

_HISTOGRAM_PARTS = ("_bucket", "_count", "_sum")


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One metric family; ``labels`` are those beside the job's target labels."""

    type: Literal["counter", "gauge", "histogram"]
    jobs: tuple[str, ...]
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of ``metrics.yaml``."""

    jobs: dict[str, tuple[str, ...]]  # job -> target labels
    metrics: dict[str, Metric]

    @staticmethod
    def load() -> "Metrics":
        """Return the declared metrics."""
        return _load()

    def family(self, series_name: str) -> tuple[str, Metric]:
        """Return the family a series belongs to: ``x_bucket`` is of histogram ``x``.

        Raises:
            InvalidSpecificationError: the series is not declared.
        """
        if series_name in self.metrics:
            return series_name, self.metrics[series_name]
        for part in _HISTOGRAM_PARTS:
            name = series_name.removesuffix(part)
            if name != series_name and name in self.metrics and self.metrics[name].type == "histogram":
                return name, self.metrics[name]
        raise InvalidSpecificationError(f"no metric {series_name!r} is declared")

    def job_of(self, series_name: str) -> str:
        """Return the only job that exposes a series.

        Raises:
            InvalidSpecificationError: several do, or it is not declared.
        """
        _, metric = self.family(series_name)
        if len(metric.jobs) != 1:
            raise InvalidSpecificationError(f"{series_name} is exposed by several jobs: say which")
        return metric.jobs[0]

    def labels_of(self, series_name: str) -> frozenset[str]:
        """Return every label a series may have, the target labels included."""
        _, metric = self.family(series_name)
        own = set(metric.labels) | ({"le"} if metric.type == "histogram" else set())
        return frozenset(own.union(*(self.jobs[job] for job in metric.jobs)))


@cache
def _load() -> Metrics:
    return read(SPECIFICATION / "metrics.yaml", Metrics)
