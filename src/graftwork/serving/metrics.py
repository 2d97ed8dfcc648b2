"""Counts and times for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = to = CollectorRegistry()
        self._requests = Counter(
            "graftwork_requests", "Requests by route and status.", ["route", "status"], registry=to
        )
        self._latency = Histogram(
            "graftwork_request_seconds",
            "Seconds from a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=to,
        )
        self._rows = Counter("graftwork_rows", "Rows by what became of them.", ["outcome"], registry=to)
        self._batch_rows = Histogram("graftwork_batch_rows", "Rows of a batch.", buckets=_COUNTS, registry=to)
        self._batch_tasks = Histogram("graftwork_batch_tasks", "Tasks of a batch.", buckets=_COUNTS, registry=to)
        self._batch_seconds = Histogram("graftwork_batch_seconds", "Seconds of a batch.", buckets=_SECONDS, registry=to)
        self._waiting = Gauge("graftwork_queue_rows", "Rows that wait.", registry=to)
        self._tasks = Gauge("graftwork_tasks", "Tasks that are served.", registry=to)

    def follow(self, waiting: Callable[[], float], tasks: Callable[[], float]) -> None:
        """Take the sizes of queue and table of tasks from functions."""
        self._waiting.set_function(waiting)
        self._tasks.set_function(tasks)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def rows(self, count: int, failed: int) -> None:
        """Count the rows of an answer."""
        self._rows.labels("predicted").inc(count - failed)
        if failed:
            self._rows.labels("failed").inc(failed)

    def batch(self, payloads: Sequence[Any], seconds: float) -> None:
        """Count a batch."""
        self._batch_rows.observe(len(payloads))
        self._batch_tasks.observe(len({id(getattr(one, "task", None)) for one in payloads}))
        self._batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """Return all of them in the format of Prometheus."""
        return generate_latest(self.registry)
