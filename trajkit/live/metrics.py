"""What `/metrics` tells Prometheus. Each server has a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self._registry = at = CollectorRegistry()
        self.requests = Counter("trajkit_requests", "Requests, by how they ended.", ["outcome"], registry=at)
        self.running = Gauge("trajkit_runs", "Runs that generate now.", registry=at)
        self.waiting = Gauge("trajkit_waiting", "Requests that wait for a place.", registry=at)
        self.tokens = Counter("trajkit_tokens", "Tokens written.", registry=at)
        self.steps = Counter("trajkit_steps", "Steps explained.", registry=at)
        self.alarms = Counter("trajkit_alarms", "Runs in which the monitor alarmed.", registry=at)
        self.decisions = Counter("trajkit_decisions", "What policies decided.", ["action"], registry=at)
        self.first_step = Histogram(
            "trajkit_first_step_seconds",
            "From the request to its first step.",
            buckets=(0.1, 0.3, 1, 3, 10, 30, 100),
            registry=at,
        )
        self.delay = Histogram(
            "trajkit_step_delay_seconds",
            "From a step's last token to its effects.",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3),
            registry=at,
        )

    def text(self) -> bytes:
        return generate_latest(self._registry)
