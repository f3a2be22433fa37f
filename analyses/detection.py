"""Early failure, outcomes and the monitor on held-out scenes, beside their baselines.

    python -m analyses.detection    # under a minute; writes reports/detection.md

Detectors are fitted and calibrated on scenes of validation digits and evaluated on scenes of test digits, exactly as by
`python -m pipelines.fit_detectors`; intervals resample scenes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import trajkit as tk
from trajkit.cli.fit import wide
from trajkit.cli.output import markdown
from trajkit.demo import paths
from trajkit.demo.runs import fit_demo_detectors


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports/detection.md"))
    args = parser.parse_args(argv)
    result = fit_demo_detectors(list(tk.read_traces(paths.TRACES).without_images()))
    tables = result.tables
    macro = tables["outcome_auc"].query("outcome == 'macro'").drop(columns="outcome")
    sections = {
        "Runs, split by scene": tables["split"],
        "AUC of failure at absolute steps": wide(tables["auc_by_step"], "step", 6),
        "AUC at fractions of the final length (oracle: the final length is not known online)": wide(
            tables["auc_by_fraction"], "fraction", 6
        ),
        "Tortuosity alone at 30 % elapsed, by task family (oracle)": tables["tortuosity_by_task"],
        "Outcome at the end of thinking: macro AUC": macro,
        "Outcome with abstention": tables["abstention"],
        "False alarms on successful runs, promised at most 10 %": tables["false_alarms"],
        "False alarms by length of the run": tables["false_alarms_by_length"],
        "Power: failing runs that were alarmed": tables["power"],
        "Share of thinking tokens that come after the alarm": tables["tokens_saved"],
    }
    text = "# Early failure, outcome and monitor on the demo\n\nRegenerate: `python -m analyses.detection`. "
    text += "All figures are on scenes of test digits; 95 % intervals resample scenes.\n\n"
    text += "".join(f"## {title}\n\n{markdown(table)}\n" for title, table in sections.items())
    text += f"{result.detectors.monitor.message}\n"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
