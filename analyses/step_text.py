"""Is what effects add to uncertainty about a sentence more than its text tells for nothing?

    python -m analyses.step_text          # minutes; writes reports/step_text.md

Runs that have lost their way say the same again, and effects that agree with those of an earlier sentence know it; so
does the text. Here both predictors know the number of the sentence, the form of the question, and how often the
sentence and the place that it names were said before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import trajkit as tk
from analyses.common import arguments_of_traces, table_of, write
from trajkit.demo.acts import normalise
from trajkit.demo.named import named_cells, places
from trajkit.demo.runs import step_labels
from trajkit.detection import StepPredictor
from trajkit.detection.step_features import CONFIDENT, KINDS
from trajkit.judging import held_out_steps, step_gains
from trajkit.judging.held_out_sentences import HeldOutSteps
from trajkit.progress import progress
from trajkit.tables import Estimate, words
from trajkit.traces.forms import task_labels
from trajkit.traces.trace import Trace

PAIRS = {"uncertainty": ("both", "uncertainty"), "uncertainty and text": ("both, text", "uncertainty, text")}
"""What is known → the methods with effects and without."""
FITS = 20
"""Of a deal: two kinds of features with and without text, in five folds."""
TEXT = ("step", "form", "said_before", "place_before", "place_since")


def main(argv: list[str] | None = None) -> None:
    deals_of = (1, "deals of the scenes to folds")
    args = arguments_of_traces(__doc__, "reports/step_text.md", argv, boot=500, deals=deals_of)
    traces = list(tk.read_traces(args.traces))
    with progress("fits", total=FITS * args.deals) as bar:
        held = with_text(traces, args.deals, bar.advance)
    report(args.out, args.command, held, args.boot)


def with_text(traces: Sequence[Trace], deals: int, advance: Callable[[str], None] = lambda note: None) -> HeldOutSteps:
    """Sentences judged by predictors that have not seen their scenes, with and without effects, with and without TEXT;
    the methods of PAIRS."""
    frame = tk.detection.sentence_features(traces, named_cells, step_labels(traces))
    frame = frame.merge(said_before(traces), on=["transcript_id", "step"], validate="one_to_one")
    frame["form"] = np.unique(task_labels(frame), return_inverse=True)[1]
    held = held_out_steps(frame, ["uncertainty", "both"], deals=deals, advance=advance)
    found = {}
    for kind in ("uncertainty", "both"):
        x = np.nan_to_num(held.frame[[*KINDS[kind], *TEXT]].to_numpy(float), nan=-1e3)
        found[f"{kind}, text"] = _chances(held, x, advance)
    return replace(held, chances=held.chances | found)


def said_before(traces: Sequence[Trace]) -> pd.DataFrame:
    """A row per run and thinking sentence: transcript_id, step, said_before and place_before, how often the sentence
    and the last place that it names were said before in the run, and place_since, sentences since the place was, −1
    where it was not."""
    rows = []
    for trace in traces:
        said, named = dict[str, int](), dict[object, tuple[int, int]]()
        for step, text in enumerate((s.text for s in trace.steps if s.kind == "thinking"), start=1):
            sentence, at = normalise(text), (places(text) or [None])[-1]
            times, last = named.get(at, (0, 0))
            rows.append((trace.transcript_id, step, said.get(sentence, 0), times, step - last if times else -1))
            said[sentence] = said.get(sentence, 0) + 1
            named[at] = (times + 1, step)
    return pd.DataFrame(rows, columns=["transcript_id", "step", "said_before", "place_before", "place_since"])


def _chances(held: HeldOutSteps, x: np.ndarray, advance: Callable[[str], None]) -> np.ndarray:
    """(R, n, C) chances by the trees of a StepPredictor, in the folds of `held`."""
    label = held.frame["label"].to_numpy(str)
    found = np.zeros((len(held.folds), len(x), len(held.classes)))
    for deal, folds in enumerate(held.folds):
        for fold in range(held.n_folds):
            fitted = StepPredictor().unfitted_trees().fit(x[folds != fold], label[folds != fold])
            order = [list(fitted.classes_).index(name) for name in held.classes]
            found[deal, folds == fold] = fitted.predict_proba(x[folds == fold])[:, order]
            advance("text")
    return found


def report(out: Path, command: str, held: HeldOutSteps, n_boot: int) -> None:
    """Write the page. command: what makes the page again."""
    rows = []
    for known, (better, than) in PAIRS.items():
        for within in (False, True):
            table = step_gains(held, better, than, within_task=within, n_boot=n_boot)
            table = table[table["sentences"].isin(["all", "confident"])]
            for row in table.itertuples():
                gain = Estimate(row.gain, row.low, row.high)
                pairs = "within form" if within else "all"
                rows.append([known, row.target, row.sentences, pairs, row.auc_than, row.auc, gain, row.p_corrected])
    columns = ("known", "told", "among", "pairs", "without effects", "with effects", "gain, paired", "p (Holm)")
    text = (
        f"# What effects add to uncertainty, and to the text\n\nRegenerate: `{command}`. {len(held.frame):,} sentences "
        f"of {held.frame['transcript_id'].nunique():,} runs, judged by trees that have not seen their scenes (five "
        "folds). *Known* beside effects: uncertainty as in [step_detection](step_detection.md), and with *text* also "
        "the number of the sentence, the form of the question, how often the sentence and the place that it names were "
        f"said before in the run, and how long ago. *confident*: the geometric mean of its tokens' probabilities is "
        f"{CONFIDENT:g} or more. 95 % intervals resample scenes and allow for fitting anew."
    )
    formats = {
        "without effects": words.score,
        "with effects": words.score,
        "gain, paired": words.fine_difference,
        "p (Holm)": words.p_value,
    }
    write(out, text, table_of([dict(zip(columns, row, strict=True)) for row in rows], formats), _READING)


_READING = """
A sentence that was said before, about a cell that was looked at before, is likely to go the wrong way: that is what a
run in circles looks like, and its effects agree with the earlier sentence's. What effects add to uncertainty alone is
therefore no measure of what only they can tell; what they add to uncertainty and text is nearer to it.
"""


if __name__ == "__main__":
    main()
