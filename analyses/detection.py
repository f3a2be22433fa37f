"""Early failure, outcomes and the monitor on held-out scenes, beside their baselines.

    python -m analyses.detection    # under a minute; writes reports/detection.md

Detectors are fitted and calibrated on scenes of validation digits and evaluated on scenes of test digits, exactly as by
`python -m pipelines.fit_detectors`; intervals resample scenes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import trajkit as tk
from trajkit.demo import paths
from trajkit.demo.runs import fit_demo_detectors
from trajkit.files import write_text
from trajkit.judging import layout
from trajkit.tables import Table, joined, words
from trajkit.tables.names import outcome_name
from trajkit.tables.render import markdown

MOST = 6
"""Steps, or fractions of the length, that stand side by side."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boot", type=int, default=500, help="bootstrap draws of scenes")
    parser.add_argument("--out", type=Path, default=Path("reports/detection.md"))
    args = parser.parse_args(argv)
    traces = tk.read_traces(paths.TRACES)
    result = fit_demo_detectors(traces, n_boot=args.boot)
    straight = np.mean(np.ceil(0.3 * tk.run_table(traces).table["n_steps"]) <= 2)
    found = result.evaluation
    macro, runs = layout.macro_areas(found.outcome_auc)
    sections = {
        "Runs, split by scene": split_by_part(found.split),
        "AUC of failure (95 %) at absolute steps": layout.areas_across(found.auc_by_step, "step", MOST),
        "AUC at fractions of the final length (oracle: the final length is not known online)": layout.areas_across(
            found.auc_by_fraction, "fraction", MOST
        ),
        "Tortuosity alone at 30 % elapsed, by task family, within question forms (oracle)": by_family(
            found.tortuosity_by_task
        ),
        "Outcome at the end of thinking: macro AUC": replace(macro, note=f"Of {runs}."),
        "Outcome with abstention": layout.answered(found.abstention),
        "False alarms on successful runs": layout.false_alarm_rates(found.false_alarms, found.check),
        "False alarms by length of the run": by_length(found.false_alarms_by_length),
        "Power: failing runs that were alarmed": layout.caught(found.power),
        "Share of thinking tokens that come after the alarm": layout.saved(found.tokens_saved),
    }
    text = "# Early failure, outcome and monitor on the demo\n\nRegenerate: `python -m analyses.detection`. "
    text += "All figures are on scenes of test digits; 95 % intervals resample scenes.\n\n"
    text += "".join(f"## {title}\n\n{markdown(table)}\n" for title, table in sections.items())
    drift = found.drift.message if found.drift is not None else ""
    text += f"{result.detectors.monitor.message}\n\n{found.check.message}\n\n{drift}\n\n"
    text += (
        "## Reading\n\n"
        f"A path of two steps has tortuosity 1 whatever it does, and at 30 % elapsed {words.share(straight)} of these "
        "runs have come no further. At a fraction of its final length a run is read as late as it is long, and failing "
        "runs are longer: what tells there may be the length alone.\n\n"
        "Whether trajectory features add anything is the gap between a row that has them and the same row without; "
        "rows share their bootstrap draws, but their intervals stand alone and do not test that gap.\n\n"
        "The promise is of a new run of a new group, here a scene: the first row, where a scene counts by the "
        "share of its runs that succeed. All runs pooled are the same where each scene has as many runs, and another "
        "quantity where not, or where many runs are of few scenes. Intervals show the sampling of test scenes alone; "
        "the promise is over the draw of the calibration runs too, and holds for scenes like theirs; calibration "
        "scenes are of validation digits, test scenes of test digits.\n"
    )
    write_text(args.out, text)
    print(text)


def split_by_part(split: pd.DataFrame) -> Table:
    """split: as `Evaluation.split`."""
    return Table(split, {name: outcome_name(name) for name in split})


def by_family(areas: pd.DataFrame) -> Table:
    """areas: as `Evaluation.tortuosity_by_task`."""
    headings = {"task_set": "family", "n_runs": "runs", "n_failures": "failing", "n_scored": "scored"}
    return Table(joined(areas, "auc"), headings | {"auc": "AUC (95 %)"}, {"auc": words.auc})


def by_length(rates: pd.DataFrame) -> Table:
    """rates: as `Replay.false_alarms_by_length`."""
    headings = {"from_step": "steps from", "to_step": "to", "n": "runs", "k": "alarmed", "rate": "share (95 %)"}
    return Table(joined(rates, "rate"), headings, {"rate": words.shares})


if __name__ == "__main__":
    main()
