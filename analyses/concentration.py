"""Concentration step by step and by outcome, in four measures, and its sign in each task family.

    python -m analyses.concentration [TRACES]

Reads any folder of traces, the demo's by default; takes a minute or two on those.
"""

from __future__ import annotations

from analyses.studies import run


def main(argv: list[str] | None = None) -> None:
    run("concentration", __doc__, argv)


if __name__ == "__main__":
    main()
