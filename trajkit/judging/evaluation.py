"""How detectors did on runs that they had not seen: a table for each question, with 95 % intervals by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajkit.judging.alarms import Replay

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Evaluation(Replay):
    """Tables of `fit_detectors`, or what can be said of detectors without fitting any; None where there is none.

    auc_by_step: of failure among the runs still thinking at a step: method step n_runs n_failures n_scored auc low
        high.
    auc_by_fraction: an ORACLE, at fractions of the final length: the same, with fraction and oracle for step.
    split: the parts of the runs: part groups runs, and the runs of each outcome.
    tortuosity_by_task: an ORACLE, tortuosity alone at 0.3 of the final length, of each family, over pairs of runs of
        one question form (`risks.matched_auc`): method task_set fraction oracle n_runs n_failures n_scored pairs auc
        low high.
    outcome_auc: outcome against the rest, and `ranking.MACRO`: method outcome n_runs auc low high.
    note: what of the runs could not be read, in words; empty where all could.
    abstention: what the classifier answered, by outcome and for `ranking.ALL`: outcome n_runs answered error.

    See also: `fit_detectors`, `Replay`.

    >>> fitted = tk.judging.fit_detectors(frame, compared=("length",), model=monitor.model, n_boot=50)
    >>> fitted.evaluation.split[["part", "groups", "runs"]]
              part  groups  runs
    0          fit      33   198
    1  calibration      17   102
    2         test      16    96
    """

    auc_by_step: pd.DataFrame
    auc_by_fraction: pd.DataFrame
    split: pd.DataFrame | None = None
    tortuosity_by_task: pd.DataFrame | None = None
    outcome_auc: pd.DataFrame | None = None
    abstention: pd.DataFrame | None = None
    note: str = ""

    def _repr_html_(self) -> str:
        from trajkit.notebook.results import evaluation_html

        return evaluation_html(self)
