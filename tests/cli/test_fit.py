"""The tables of a fit."""

from __future__ import annotations

import numpy as np
import pandas as pd

from trajkit.cli.fit import stated, wide

NAN = float("nan")
TABLE = pd.DataFrame(
    {
        "method": ["length", "tortuosity alone", "length", "tortuosity alone"],
        "step": [1, 1, 2, 2],
        "n_runs": [40, 40, 8, 8],
        "n_failures": [12, 12, 4, 4],
        "n_scored": [40, 31, 8, 0],
        "auc": [0.7, 0.6, 1.0, NAN],
        "low": [0.6, 0.45, NAN, NAN],
        "high": [0.8, 0.75, NAN, NAN],
    }
)


def test_no_auc_is_written_without_its_interval_and_the_counts_behind_it() -> None:
    shown = wide(TABLE, "step", 6).set_index("method")
    assert shown["step 1"].to_list() == [".70 (.60–.80)", ".60 (.45–.75) of 31", "40 (12)"]
    assert shown["2"].to_list() == ["–", "–", "8 (4)"]  # 1.00 of eight runs says nothing


def test_a_bare_auc_is_left_out_of_a_long_table_too() -> None:
    np.testing.assert_array_equal(stated(TABLE)["auc"], [0.7, 0.6, NAN, NAN])
    assert TABLE["auc"][2] == 1.0
