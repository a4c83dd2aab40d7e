"""Prometheus metrics: one registry per service."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counts of a service; `waiting` and `held` are called for the images that wait and the bytes that requests hold."""

    def __init__(self, waiting: Callable[[], float], held: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("bcd_requests", "Requests answered.", ["path", "status"], registry=self.registry)
        self.seconds = Histogram(
            "bcd_request_seconds", "From a request's arrival to its answer.", ["path"], registry=self.registry, buckets=_SECONDS
        )
        self.in_flight = Gauge("bcd_requests_in_flight", "Requests being answered.", registry=self.registry)
        self.images = Counter("bcd_images", "Images sent, by what became of them.", ["outcome"], registry=self.registry)
        self.errors = Counter("bcd_errors", "Requests refused or failed, by kind.", ["kind"], registry=self.registry)
        for outcome in ("predicted", "unreadable"):
            self.images.labels(outcome)
        Gauge("bcd_queue_images", "Images that wait for the model.", registry=self.registry).set_function(waiting)
        Gauge("bcd_held_bytes", "Memory that requests hold.", registry=self.registry).set_function(held)
        ProcessCollector(registry=self.registry)

    def text(self) -> bytes:
        """Return what Prometheus reads."""
        return generate_latest(self.registry)
