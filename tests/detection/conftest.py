from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from trajkit.detection import EarlyFailurePredictor

from .world import Run, make_frame, make_runs


@pytest.fixture(scope="session")
def runs() -> list[Run]:
    return make_runs()


@pytest.fixture(scope="session")
def frame(runs: list[Run]) -> pd.DataFrame:
    return make_frame(runs)


@pytest.fixture(scope="session")
def failed(frame: pd.DataFrame) -> np.ndarray:
    return (frame["outcome"] != "success").to_numpy(int)


@pytest.fixture(scope="session")
def predictor(frame: pd.DataFrame, failed: np.ndarray) -> EarlyFailurePredictor:
    return EarlyFailurePredictor().fit(frame, failed)
