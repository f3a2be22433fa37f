"""Hallucination or lost reasoning: a learned classifier with reasons, and the paper's rule of two numbers beside it.

    python -m analyses.outcomes [TRACES]

Reads any folder of traces, the demo's by default; takes a minute or two on those.
"""

from __future__ import annotations

from analyses.studies import run


def main(argv: list[str] | None = None) -> None:
    run("outcomes", __doc__, argv)


if __name__ == "__main__":
    main()
