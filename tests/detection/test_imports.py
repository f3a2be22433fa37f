from __future__ import annotations

import subprocess
import sys

import pytest

import trajkit.detection
import trajkit.judging


def test_importing_the_package_and_the_rank_rule_loads_no_scikit_learn_and_no_torch() -> None:
    code = (
        "import sys, trajkit.detection as d; d.max_score_threshold([1.0], 0.5); "
        "print(sorted({'sklearn', 'torch', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("room", [trajkit.detection, trajkit.judging])
def test_every_public_name_resolves(room) -> None:
    for name in dir(room):
        assert getattr(room, name) is not None
