"""How often intervals of cross-validated figures hold the truth; rows of the page of `analyses.coverage`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analyses.simulated import labels_of, share_held
from trajkit.detection.design import FEATURE_SETS
from trajkit.judging.cross_validation import cross_validated
from trajkit.judging.ranking import select_steps
from trajkit.judging.risks import calibration_slope, gains, matched_auc, probability_scores

WORLDS = {"features tell nothing": 0.0, "features tell": 0.6}
FIGURES = ("AUC", "gain in AUC of six features that tell nothing", "average precision", "Brier score", "slope")


def refitted_rows(world: str, sims: int, groups: Sequence[int], n_boot: int) -> list[dict[str, Any]]:
    """Rows of a figure of cross-validated EarlyFailurePredictors, one a number of groups, and of held-out rows alone;
    from 50 groups on.

    The truth is the mean of the figure over data sets, but for an AUC and a gain of features that tell nothing; it is
    shown for the most groups.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for n_groups in [n for n in groups if n >= 50]:
        found = np.array(
            [refitted_figures(WORLDS[world], seed, n_groups, n_boot) for seed in range(sims)]
        )  # (sims, figures, 3)
        truth = np.nanmean(found[:, :, 0], axis=0)
        if WORLDS[world] == 0:
            truth[[0, 1, -1]] = 0.5, 0.0, 0.5
        for j, name in enumerate([*(f"cross-validated, {figure}" for figure in FIGURES), "the same AUC, rows alone"]):
            known = np.isfinite(found[:, j]).all(axis=1)
            held = (found[known, j, 1] <= truth[j]) & (truth[j] <= found[known, j, 2])
            row = {"interval": name, "of": world, "truth": truth[j], "groups": n_groups} | share_held(held, sims)
            rows.setdefault(name, []).append(row)
    return [row | {"truth": of_one[-1]["truth"]} for of_one in rows.values() for row in of_one]


def refitted_figures(shift: float, seed: int, n_groups: int, n_boot: int) -> list[tuple[float, float, float]]:
    """(value, low, high) of each figure on one data set of runs of one step."""
    rng = np.random.default_rng([n_groups, seed])
    group, y = labels_of(rng, n_groups)
    names = [name for sets in ("uncertainty", "trajectory") for name in FEATURE_SETS[sets]]
    x = (rng.normal(size=(n_groups, len(names)))[group] + rng.normal(size=(len(y), len(names)))) / 2**0.5
    x[:, :2] += shift * y[:, None]  # uncertainty; the trajectory tells nothing
    frame = pd.DataFrame(np.exp(x / 3), columns=names)
    runs = {"group_id": group.astype(str), "step": 1, "success": y == 0, "outcome": "unknown"}
    frame = frame.assign(transcript_id=np.arange(len(y)).astype(str), **runs)
    found = cross_validated(frame, ("uncertainty", "trajectory+uncertainty"))
    (less, more), folds = found.risks.values(), found.folds
    at, asked = select_steps(frame, [1]), {"n_boot": n_boot, "n_folds": found.n_folds}
    area = matched_auc(frame, {"risk": more}, at, folds, **asked).iloc[0]
    gained = gains(frame, more, less, at, folds, **asked).iloc[0]
    scores = probability_scores(frame, {"risk": more}, at, folds, **asked).set_index("method").loc["risk"]
    slope = calibration_slope(frame, more, at, **asked).iloc[0]
    alone = matched_auc(frame, {"risk": more[0]}, at, folds[0], n_boot).iloc[0]
    return [
        *((row[name], row["low"], row["high"]) for row, name in ((area, "auc"), (gained, "gain"))),
        *((scores[name], scores[f"{name}_low"], scores[f"{name}_high"]) for name in ("average_precision", "brier")),
        *((row[name], row["low"], row["high"]) for row, name in ((slope, "slope"), (alone, "auc"))),
    ]
