"""How detectors did on runs that they had not seen: a table for each question, with 95 % intervals by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajkit.judging.alarms import Replay

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation(Replay):
    """Tables of `fit_detectors`, or what can be said of detectors without fitting any; None where there is none.

    auc_by_step: of failure among the runs still thinking at a step: method step n_runs n_failures n_scored auc low
        high.
    auc_by_fraction: an ORACLE, at fractions of the final length: the same, with fraction and oracle for step.
    split: the parts of the runs: part groups runs, and the runs of each outcome.
    tortuosity_by_task: an ORACLE, tortuosity alone at 0.3 of the final length: as auc_by_fraction, with task_set.
    outcome_auc: outcome against the rest, and `ranking.MACRO`: method outcome n_runs auc low high.
    abstention: what the classifier answered, by outcome and for `ranking.ALL`: outcome n_runs answered error.
    """

    auc_by_step: pd.DataFrame
    auc_by_fraction: pd.DataFrame
    split: pd.DataFrame | None = None
    tortuosity_by_task: pd.DataFrame | None = None
    outcome_auc: pd.DataFrame | None = None
    abstention: pd.DataFrame | None = None
