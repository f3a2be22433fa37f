"""Load a model, its estimator and its detectors for a command, and check that they belong together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trajkit.cli.output import note
from trajkit.demo import paths
from trajkit.errors import EstimatorMismatchError, InputError

if TYPE_CHECKING:
    from trajkit.attribution.estimator import EffectEstimator
    from trajkit.detection.store import Detectors
    from trajkit.vlm.model import VLM

NO_DETECTORS = "none"


def load_model(model: str | None, system: str | None = None) -> VLM:
    """The model of `--model`, or the demo's. transformers keeps its advice to itself: it is not for this screen."""
    from transformers.utils import logging

    from trajkit.vlm.load import load_vlm

    logging.set_verbosity_error()
    return load_vlm(model if model is not None else _shown(_demo(paths.MODEL, "--model")), system=system)


def load_estimator(folder: Path | None, vlm: VLM) -> EffectEstimator:
    """The estimator of `--estimator`, or the demo's. Raises EstimatorMismatchError when it is not for this model."""
    from trajkit.attribution.estimator import EffectEstimator

    estimator = EffectEstimator.load(folder if folder is not None else _demo(paths.ESTIMATOR, "--estimator"))
    if folder is None and estimator.binding.fingerprint != vlm.fingerprint:
        raise EstimatorMismatchError(
            f"no --estimator was given, and the demo's own does not fit {vlm.name}. Train one for this model: "
            "trajkit train-estimator --help"
        )
    estimator.check(vlm.fingerprint, vlm.name)
    return estimator


def load_detectors_for(folder: str | None, vlm: VLM) -> Detectors | None:
    """The detectors of `--detectors`; None for `none`, and by default for any model but the demo's.

    Raises EstimatorMismatchError when they were fitted on runs of another model.
    """
    from trajkit.detection.store import load_detectors

    if folder == NO_DETECTORS:
        return None
    if folder is None:
        if _place(vlm.name) != _place(str(paths.MODEL)):
            note("no monitor: fit one for this model with `trajkit fit`, then pass --detectors.")
            return None
        if not paths.DETECTORS.is_dir():
            note(f"no monitor: {_shown(paths.DETECTORS)} is not there; run `{paths.restore('fit_detectors')}`.")
            return None
        folder = str(paths.DETECTORS)
    detectors = load_detectors(folder)
    detectors.check(vlm.name, vlm.fingerprint)
    return detectors


def _demo(path: Path, option: str) -> Path:
    if not path.is_dir():
        todo = "restore the folder data/demo" if paths.IN_CHECKOUT else "install trajkit again"
        raise InputError(f"the demo's {path.name} is not in {path}; {todo}, or pass {option}.")
    return path


def _shown(path: Path) -> str:
    """Relative to the current folder where it is below it: the name that traces and messages carry."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _place(name: str) -> str:
    """What a model name means: a folder's full path, or a hub id as it is."""
    for candidate in (Path(name), paths.shipped(name)):
        if candidate is not None and candidate.is_dir():
            return str(candidate.resolve())
    return name
