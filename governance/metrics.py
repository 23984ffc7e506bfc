"""Figures for Prometheus. They are about the service, never about people or customers.

Guarantees: labels are the routes' templates, methods, status and reason codes, each from a closed
    set; nothing counts what one unit does, and the hand-over of opt-outs is in no figure, whose
    growth would tell how many customers have opted out.
"""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

MEDIA_TYPE = CONTENT_TYPE_LATEST
UNMEASURED = frozenset({"/v1/opt-outs", "/v1/opt-out-batches", "/v1/opt-out-histories"})
UNMATCHED = "unmatched"
_METHODS = frozenset({"GET", "HEAD", "POST"})
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The figures of one running service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "fedpact_requests",
            "Requests that were answered.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._refusals = Counter(
            "fedpact_refusals",
            "Reason codes of answered problems.",
            ("route", "code"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "fedpact_request_seconds",
            "How long an answer took.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._log_entries = Gauge(
            "fedpact_log_entries", "Entries of the log.", registry=self._registry
        )
        self._permits_open = Gauge(
            "fedpact_permits_open",
            "Permits that are not revoked and whose run has no registered model.",
            registry=self._registry,
        )

    def observe(
        self, method: str, route: str, status: int, seconds: float, codes: Sequence[str]
    ) -> None:
        """Count one answer."""
        if route in UNMEASURED:
            return
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        for code in codes:
            self._refusals.labels(route, code).inc()

    def render(self, log_entries: int, permits_open: int) -> bytes:
        """Return all figures in Prometheus' text format."""
        self._log_entries.set(log_entries)
        self._permits_open.set(permits_open)
        return generate_latest(self._registry)
