"""Early failure, outcomes and the monitor on held-out scenes, beside their baselines.

    python -m analyses.detection    # under a minute; writes reports/detection.md

Detectors are fitted and calibrated on scenes of validation digits and evaluated on scenes of test digits, exactly as by
`python -m pipelines.fit_detectors`; intervals resample scenes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import trajkit as tk
from trajkit.cli.fit import stated, wide
from trajkit.demo import paths
from trajkit.demo.runs import fit_demo_detectors
from trajkit.files import write_text
from trajkit.judging.promise import check_promise
from trajkit.judging.ranking import MACRO
from trajkit.text import markdown


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boot", type=int, default=500, help="bootstrap draws of scenes")
    parser.add_argument("--out", type=Path, default=Path("reports/detection.md"))
    args = parser.parse_args(argv)
    traces = tk.read_traces(paths.TRACES)
    result = fit_demo_detectors(traces, n_boot=args.boot)
    straight = np.mean(np.ceil(0.3 * tk.run_table(traces).table["n_steps"]) <= 2)
    found = result.evaluation
    areas = found.outcome_auc
    macro = stated(areas[areas["outcome"] == MACRO].drop(columns="outcome"))
    sections = {
        "Runs, split by scene": found.split,
        "AUC of failure at absolute steps": wide(found.auc_by_step, "step", 6),
        "AUC at fractions of the final length (oracle: the final length is not known online)": wide(
            found.auc_by_fraction, "fraction", 6
        ),
        "Tortuosity alone at 30 % elapsed, by task family (oracle)": stated(found.tortuosity_by_task),
        "Outcome at the end of thinking: macro AUC": macro,
        "Outcome with abstention": found.abstention,
        "False alarms on successful runs, promised at most 10 %": found.false_alarms,
        "False alarms by length of the run": found.false_alarms_by_length,
        "Power: failing runs that were alarmed": found.power,
        "Share of thinking tokens that come after the alarm": found.tokens_saved,
    }
    text = "# Early failure, outcome and monitor on the demo\n\nRegenerate: `python -m analyses.detection`. "
    text += "All figures are on scenes of test digits; 95 % intervals resample scenes.\n\n"
    text += "".join(f"## {title}\n\n{markdown(table)}\n" for title, table in sections.items())
    check = check_promise(found.runs, result.detectors.monitor)
    text += f"{result.detectors.monitor.message}\n\n{check.message}\n\n"
    text += (
        "## Reading\n\n"
        f"A path of two steps has tortuosity 1 whatever it does, and at 30 % elapsed {straight:.0%} of these runs have "
        "come no further: the paper's figure can hardly be tried on runs this short.\n\n"
        "Whether trajectory features add anything is the gap between a row that has them and the same row without; "
        "rows share their bootstrap draws, but their intervals stand alone and do not test that gap.\n\n"
        "The promise is of a new run of a new group, here a scene: the row `new group`, where a scene counts by the "
        "share of its runs that succeed. All runs pooled are the same where each scene has as many runs, and another "
        "quantity where not, or where many runs are of few scenes. Intervals show the sampling of test scenes alone; "
        "the promise is over the draw of the calibration runs too, and holds for scenes like theirs; calibration "
        "scenes are of validation digits, test scenes of test digits.\n"
    )
    write_text(args.out, text)
    print(text)


if __name__ == "__main__":
    main()
