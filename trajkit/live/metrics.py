"""What `/metrics` tells Prometheus. Each server has a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OUTCOMES = ("ended", "stopped", "left", "failed", "refused")
"""How requests end: the model or its policy ended the run, it was stopped (by its policy before its answer, by a limit,
by the server's end), the client left it, it failed, or there was none."""
DELIVERIES = ("sent", "failed", "dropped")
"""What becomes of a webhook: it arrived; one try of it failed; it will not be tried again."""
_RUN = (1, 3, 10, 30, 100, 300, 1000)
_SOON = (0.1, 0.3, 1, 3, 10, 30, 100)
_AT_ONCE = (0.01, 0.03, 0.1, 0.3, 1, 3)


class Metrics:
    """Counters of one server. running, waiting and viewers are asked for when they are told."""

    def __init__(self) -> None:
        self._registry = at = CollectorRegistry()
        self.requests = Counter(
            "trajkit_requests",
            "Requests for a run, by how they ended; refused are those for anything.",
            ["outcome"],
            registry=at,
        )
        self.running = Gauge("trajkit_runs_running", "Runs that have a place now.", registry=at)
        self.waiting = Gauge("trajkit_requests_waiting", "Requests that wait for a place.", registry=at)
        self.viewers = Gauge("trajkit_viewers", "Streams of events that are open to who looks on.", registry=at)
        self.tokens = Counter("trajkit_generated_tokens", "Tokens written.", registry=at)
        self.steps = Counter("trajkit_steps", "Steps explained.", registry=at)
        self.alarms = Counter("trajkit_alarmed_runs", "Runs in which the monitor alarmed.", registry=at)
        self.decisions = Counter("trajkit_decisions", "What policies decided.", ["action"], registry=at)
        self.unexplained = Counter("trajkit_unexplained_runs", "Runs that went on without steps.", registry=at)
        self.webhooks = Counter("trajkit_webhooks", "Webhooks, by what became of them.", ["outcome"], registry=at)
        self.wait = _histogram("trajkit_queue_wait_seconds", "From the request to its place.", _SOON, at)
        self.first_step = _histogram("trajkit_first_step_seconds", "From the request to its first step.", _SOON, at)
        self.delay = _histogram("trajkit_step_delay_seconds", "From a step's last token to its effects.", _AT_ONCE, at)
        self.seconds = _histogram("trajkit_run_seconds", "From a run's place to its end.", _RUN, at)
        for counter, outcomes in ((self.requests, OUTCOMES), (self.webhooks, DELIVERIES)):
            for outcome in outcomes:
                counter.labels(outcome)

    def text(self) -> bytes:
        """All of them, in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)


def _histogram(name: str, says: str, buckets: tuple[float, ...], registry: CollectorRegistry) -> Histogram:
    return Histogram(name, says, buckets=buckets, registry=registry)
