"""What metrics, outcomes and methods are called by people; files have their machine names."""

from __future__ import annotations

OUTCOME_ORDER = ("success", "hallucination", "reasoning_failure", "failure", "unknown")
"""Outcomes of runs as they stand beside each other on every page."""
METRIC_WORDS = {
    "step": "thinking steps",
    "n_steps": "thinking steps",
    "n_tokens": "tokens",
    "net_displacement": "distance from the first step",
    "mean_cosine": "mean cosine of the turns",
    "e_max": "E_max",
    "msd_exponent": "MSD exponent",
    "concentration_mean": "level of concentration",
    "concentration_slope": "trend of concentration",
    "concentration_sd": "spread of concentration",
    "hhi_level": "level of concentration",
    "hhi_slope": "trend of concentration",
    "hhi_spread": "spread of concentration",
    "logprob_mean": "mean log-probability",
    "logprob": "log-probability",
    "entropy_mean": "mean entropy",
    "logprob_low": "lowest log-probability",
    "entropy_high": "highest entropy",
    "hhi": "HHI",
    "gini": "Gini",
    "risk": "risk of failure",
}
"""What people call a metric; those that are not here are called what they are (`metric_name`)."""


def metric_name(metric: str) -> str:
    """A metric as people call it, in prose and in tables."""
    return METRIC_WORDS.get(metric, metric.replace("_", " "))


def outcome_name(outcome: str) -> str:
    """An outcome as people write it."""
    return outcome.replace("_", " ")


def feature_sets(method: str) -> str:
    """The name of a method, its feature sets set apart, so that a long one wraps."""
    return method.replace("+", " + ")
