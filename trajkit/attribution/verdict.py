"""What an evaluation comes to, in a sentence or two that somebody new to it can act on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trajkit.attribution.evaluation import Scored
from trajkit.attribution.faithfulness import GROUNDED
from trajkit.attribution.figures import ALL, GROUNDED_STEPS, exchanged, faithfulness_table, step_counts
from trajkit.stats.correction import holm
from trajkit.stats.resampling import MIN_GROUPS
from trajkit.tables import Estimate, words

if TYPE_CHECKING:
    import pandas as pd

SURE_GROUPS = 30
"""Groups below which a conclusion says on how few it rests."""
LEVEL = 0.05
"""Of a verdict: how often it may call one of two equal methods better or worse."""
RELIABLE = 0.7
"""A run metric can be relied on when its Spearman correlation with the measured one is above this, with confidence."""


@dataclass(frozen=True)
class Conclusion:
    """kind: `use` the estimator; it is better than raw attention in one thing and worse in another (`mixed`); it is not
    shown to be better (`no better`); it is `worse`; there are `too few` steps to tell. text: the same in words.
    """

    kind: Literal["use", "mixed", "no better", "worse", "too few"]
    text: str


def conclude(
    scored: Sequence[Scored], ours: str = "estimator", raw: str = "raw attention", n_boot: int = 500, seed: int = 0
) -> Conclusion:
    """Whether an estimator's effects are worth having, from paired differences to raw attention on grounded steps.

    Two differences decide: of top-1, how often the right region is named, and of LDS, how well it is told what hiding
    several regions does. One is a difference where p < 0.05 (`exchanged`), corrected by Holm over the two, so that an
    estimator no better and no worse than raw attention is called either in 5 % of evaluations at most. Too few: fewer
    than MIN_GROUPS groups with grounded steps.
    """
    counts = step_counts(scored)
    (steps, groups), total = counts[GROUNDED_STEPS], counts[ALL][0]
    where = f"{steps} of {total}"
    images = words.count(groups, "image")
    if groups < MIN_GROUPS:
        return Conclusion(
            "too few",
            f"Too few steps to tell: {where}, of {images}, depend on the image (an effect of at least "
            f"{GROUNDED:g} nats). At least {MIN_GROUPS} images with such steps are needed, and some dozens to be sure: "
            "ask more questions that cannot be answered without looking.",
        )
    both = [s for s in scored if s.method in (ours, raw)]
    table = faithfulness_table(both, band=GROUNDED_STEPS, n_boot=n_boot, seed=seed).set_index(["method", "figure"])
    found = {figure: exchanged(both, ours, raw, figure, GROUNDED_STEPS, seed=seed) for figure in ("top-1", "LDS")}
    sure = holm([p for _, p in found.values()]) < LEVEL
    gains = [figure for (figure, (gain, _)), told in zip(found.items(), sure, strict=True) if told and gain > 0]
    losses = [figure for (figure, (gain, _)), told in zip(found.items(), sure, strict=True) if told and gain < 0]
    top = [table.loc[(method, "top-1"), ["value", "low", "high"]].to_numpy(float) for method in (ours, raw)]
    named = [words.shares(Estimate.of(row)) for row in top]
    said = (
        f"On steps that depend on the image ({where}) the estimator names the right region in {named[0]}, "
        f"raw attention in {named[1]}"
    )
    few = (
        ""
        if groups >= SURE_GROUPS
        else f" This rests on {words.count(groups, 'image')} only: ask more questions to be sure."
    )
    ranks = [words.score(table["value"].get((method, "LDS"), float("nan"))) for method in (ours, raw)]
    several = f"what hiding several regions does (LDS {ranks[0]} against {ranks[1]})"
    if gains and losses:
        advice = (
            f"it is better at this and worse at {several}: use it to see where a step looks, not to add effects up."
            if "top-1" in gains
            else f"it is worse at this, if better at {several}: do not read from it where a step looks."
        )
        return Conclusion("mixed", f"{said}: {advice}{few}")
    if losses:
        worse = "raw attention is better" if "top-1" in losses else f"and it tells worse {several}"
        return Conclusion(
            "worse", f"{said}: {worse}. Do not use its effects on this model; train it on more questions.{few}"
        )
    if not gains:
        return Conclusion(
            "no better",
            f"{said}: it is not shown to beat raw attention. Do not trust its effects on this model before it is "
            f"trained on more questions, or evaluated on more.{few}",
        )
    better = "" if "top-1" in gains else f", and it tells better {several}"
    rare = bool(table["high"].xs((ours, "top-1")) < 0.5)
    use = "use it, but it is wrong about most steps: never rely on a single one" if rare else "use it"
    return Conclusion("use", f"{said}{better}: {use}.{few}")


def reliable_metrics(reliability: pd.DataFrame, metrics: Sequence[str]) -> str:
    """Which of some run metrics can be relied on, as a sentence or two; empty where there are no intervals.

    reliability: as by `metric_reliability`, whose value stands behind each metric.
    """
    table = reliability.set_index("metric").loc[list(metrics)].dropna(subset=["low"])
    if table.empty:
        return ""
    named = [f"{str(metric).replace('_', ' ')} ({words.score(value)})" for metric, value in table["value"].items()]
    good = [name for name, low in zip(named, table["low"], strict=True) if low >= RELIABLE]
    other = [name for name in named if name not in good]
    if not good:
        return f"No run metric of estimated effects is shown to rank runs as measured ones do: {', '.join(other)}."
    but = f" Not shown for {', '.join(other)}." if other else ""
    return f"Run metrics of estimated effects that rank runs as measured ones do: {', '.join(good)}.{but}"
