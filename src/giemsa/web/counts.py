"""Figures for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from giemsa.verdicts import Verdict

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCHES = (1, 2, 4, 8, 16, 32)


class Counts:
    """What a server counts. No name, address or digest of anything that anybody sent is in it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "giemsa_requests", "Requests answered", ("route", "method", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "giemsa_request_seconds", "Time to an answer", ("route",), buckets=_SECONDS, registry=self.registry
        )
        self._cells = Counter("giemsa_cells", "Pictures judged", ("verdict",), registry=self.registry)
        self._batches = Histogram(
            "giemsa_batch_cells", "Pictures in one run of the model", buckets=_BATCHES, registry=self.registry
        )
        self._answers = Counter("giemsa_reviews", "Answers of reviewers taken in", registry=self.registry)
        self._fields = Counter("giemsa_fields", "Fields of smears read", ("use",), registry=self.registry)
        ProcessCollector(registry=self.registry)

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Show a number as it is when it is asked for."""
        Gauge(name, what, registry=self.registry).set_function(value)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def judged(self, verdicts: Iterable[Verdict]) -> None:
        """Count verdicts."""
        for verdict in verdicts:
            self._cells.labels(verdict.verdict).inc()

    def ran(self, pictures: int) -> None:
        """Count a run of the model."""
        self._batches.observe(pictures)

    def reviewed(self) -> None:
        """Count a reviewer's answer."""
        self._answers.inc()

    def read_fields(self, refused: Iterable[bool]) -> None:
        """Count the fields of a smear, by whether each was left out."""
        for one in refused:
            self._fields.labels("left out" if one else "counted").inc()

    def text(self) -> bytes:
        """All of it in Prometheus's text format 0.0.4."""
        return generate_latest(self.registry)
