"""How much of what could be known a score tells: its AUC beside that of a judge who knows the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from trajkit.detection.splits import failures
from trajkit.judging.deals import each_deal, over_deals, strata_of
from trajkit.judging.ranking import Selection
from trajkit.stats.resampling import Floats, auc_within, group_draws, interval

if TYPE_CHECKING:
    import pandas as pd


def shares_of_ceiling(
    frame: pd.DataFrame,
    scores: Mapping[str, Floats],
    ceiling: Floats,
    selected: Sequence[Selection],
    strata: ArrayLike,
    n_boot: int = 500,
    seed: int = 0,
    n_folds: int = 5,
) -> pd.DataFrame:
    """The share of the way from an AUC of 0.5 to that of `ceiling` that each score goes, the same draws for both.

    frame, scores, strata: as of `matched_auc`; ceiling: a score of the same rows, without NaN in a selection. Columns:
    method, the labels of the selection, share, low, high: 1 where a score tells as much as the ceiling, 0 where
    nothing, below 0 where it is worse than chance; NaN where the score has NaN there, and where it is not shown (95 %)
    that there is a way to go.
    """
    import pandas as pd

    failed, groups = failures(frame), frame["group_id"].astype(str).to_numpy()
    stratum = strata_of(strata)
    table = []
    for selection in selected:
        rows = selection.rows
        y, draws = failed[rows], group_draws(groups[rows], n_boot, seed)
        most = each_deal(auc_within, y, ceiling, stratum, rows, draws) - 0.5
        lowest = interval(over_deals(most, n_folds, ceiling, (-0.5, 0.5)))[1]
        for method, score in scores.items():
            share = low = high = float("nan")
            if lowest > 0 and not np.isnan(np.atleast_2d(score)[:, rows]).any():
                way = each_deal(auc_within, y, score, stratum, rows, draws) - 0.5
                drawn = way / np.where(most > 0, most, np.nan)
                share, low, high = interval(over_deals(drawn, n_folds, score, (-np.inf, np.inf)))
            table.append({"method": method, **selection.columns, "share": share, "low": low, "high": high})
    return pd.DataFrame(table).sort_values("method", kind="stable", ignore_index=True)
