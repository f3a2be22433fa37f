"""Every metric by outcome: effect sizes, corrected tests, and what length and task leave of them.

    python -m analyses.metric_distributions [TRACES]

Reads any folder of traces, the demo's by default; takes a minute or two on those.
"""

from __future__ import annotations

from analyses.studies import run


def main(argv: list[str] | None = None) -> None:
    run("metric_distributions", __doc__, argv)


if __name__ == "__main__":
    main()
