from tests.detection.conftest import failed, frame, predictor, runs

__all__ = ["failed", "frame", "predictor", "runs"]
