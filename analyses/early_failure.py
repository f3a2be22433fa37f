"""How early failure can be told without looking ahead, and what the path adds to length, task and uncertainty.

    python -m analyses.early_failure [TRACES]

Reads any folder of traces, the demo's by default; takes a minute or two on those.
With hidden states in the traces, a linear probe on them stands beside the others:

    python -m pipelines.collect_traces --keep-hidden --out runs/traces_hidden
    python -m analyses.early_failure runs/traces_hidden
"""

from __future__ import annotations

from analyses.studies import run


def main(argv: list[str] | None = None) -> None:
    run("early_failure", __doc__, argv)


if __name__ == "__main__":
    main()
