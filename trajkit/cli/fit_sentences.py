"""`trajkit fit --step-labels`: a predictor of wrong sentences beside the detectors, with how it does on scenes held
out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

IN_META = "meta"
"""For a file of labels: those in the runs themselves."""
_DEALS, _N_BOOT = 1, 200


def read_sentences(traces: Path, labels: str) -> pd.DataFrame:
    """Sentence features with labels of a file, or of the runs themselves. Raises InputError where there is no label."""
    from trajkit.detection.sentence_table import sentence_features
    from trajkit.errors import InputError
    from trajkit.tables.words import count

    found = sentence_features(traces, labels=None if labels == IN_META else labels)
    if found["label"].isna().all():
        raise InputError(
            f"none of {count(len(found), 'sentence')} in {traces} has a label (step_labels in the runs' meta). Give a "
            "file of them: --step-labels FILE, with transcript_id, step and label."
        )
    return found


def fit_sentences(console: Console, frame: pd.DataFrame, out: Path) -> None:
    """Show how well wrong sentences are told, by all that these runs have, and write the predictor to `out`."""
    from trajkit.detection.step_features import KINDS
    from trajkit.detection.step_predictor import READ, StepPredictor
    from trajkit.judging import step_layout
    from trajkit.judging.held_out_sentences import held_out_steps
    from trajkit.judging.step_scores import first_wrong, step_areas, step_gains
    from trajkit.tables.render import show
    from trajkit.tables.words import count

    kinds = [kind for kind in KINDS if frame[list(READ[kind])].notna().any().all()]
    held = held_out_steps(frame, kinds, deals=_DEALS)
    predictor = StepPredictor(kinds[-1]).fit(held.frame, held.frame["label"])
    show(console, step_layout.areas(step_areas(held, n_boot=_N_BOOT)), "AUC (95 %) of wrong sentences, held out")
    if "both" in kinds:
        show(console, step_layout.gains(step_gains(held, n_boot=_N_BOOT)), "What effects add to uncertainty")
    show(console, step_layout.firsts(first_wrong(held, n_boot=_N_BOOT)), "The first wrong sentence of a run, found")
    if held.left_out:
        left = count(held.left_out, "sentence")
        console.print(f"{left} without a label, or without what is read, left out.", markup=False)
    console.print(f"Wrote {predictor.save(out)}, a predictor of wrong sentences by {kinds[-1]}.", markup=False)
