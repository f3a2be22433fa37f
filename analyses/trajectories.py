"""The paper's trajectory figure from five angles, its numbers, and how they depend on the space they are measured in.

    python -m analyses.trajectories [TRACES]

Reads any folder of traces, the demo's by default; takes a minute or two on those.
"""

from __future__ import annotations

from analyses.studies import run


def main(argv: list[str] | None = None) -> None:
    run("trajectories", __doc__, argv)


if __name__ == "__main__":
    main()
