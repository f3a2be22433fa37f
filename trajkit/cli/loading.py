"""Load a model, its estimator and its detectors for a command, and check that they belong together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trajkit.cli.output import note
from trajkit.demo import paths
from trajkit.errors import EstimatorMismatchError, InputError
from trajkit.fingerprints import ModelId
from trajkit.progress import status

if TYPE_CHECKING:
    from trajkit.attribution.estimator import EffectEstimator
    from trajkit.detection.store import Detectors
    from trajkit.vlm.model import VLM

NO_DETECTORS = "none"


def load_model(model: str | None, system: str | None = None) -> VLM:
    """The model of `--model`, or the demo's. transformers keeps its advice to itself: it is not for this screen."""
    name = model_name(model)
    with status(f"loading {name}{_size(name)}"):
        from transformers.utils import logging

        from trajkit.vlm.load import load_vlm

        logging.set_verbosity_error()
        return load_vlm(name, system=system)


def model_name(model: str | None) -> str:
    """What `--model` names, or the demo's folder."""
    return model if model is not None else _shown(_demo(paths.MODEL, "--model"))


def load_libraries() -> None:
    """Import what every command with a model needs, which takes seconds, and say so."""
    from importlib import import_module

    with status("loading torch and transformers"):
        import_module("trajkit.attribution.collect")


def load_estimator(folder: Path | None, vlm: VLM | ModelId) -> EffectEstimator:
    """The estimator of `--estimator`, or the demo's. Raises EstimatorMismatchError when it is not for this model."""
    place = folder if folder is not None else _demo(paths.ESTIMATOR, "--estimator")
    with status(f"reading the estimator {_shown(place)}"):
        from trajkit.attribution.estimator import EffectEstimator

        estimator = EffectEstimator.load(place)
    if folder is None and not estimator.made_for.is_same(ModelId(vlm.name, vlm.fingerprint)):
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
    if folder == NO_DETECTORS:
        return None
    if folder is None:
        if not is_demo(vlm.name):
            note("no monitor: fit one for this model with `trajkit fit`, then pass --detectors.")
            return None
        if not paths.DETECTORS.is_dir():
            note(f"no monitor: {_shown(paths.DETECTORS)} is not there; run `{paths.restore('fit_detectors')}`.")
            return None
        folder = str(paths.DETECTORS)
    with status(f"reading the detectors {_shown(Path(folder))}"):
        from trajkit.detection.store import load_detectors

        detectors = load_detectors(folder)
    detectors.check(vlm.name, vlm.fingerprint)
    return detectors


def _size(name: str) -> str:
    """How large the weights of a checkpoint are, in brackets; "" where they are not on this machine."""
    folder = Path(name)
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            config = try_to_load_from_cache(name, "config.json")
        except HFValidationError:
            return ""
        if not isinstance(config, str):
            return ""
        folder = Path(config).parent
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return f" ({size / 1e9:.1f} GB)" if size >= 1e8 else f" ({size / 1e6:.1f} MB)" if size else ""


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


def is_demo(model: str) -> bool:
    """Whether a name, as traces and commands have it, means the demo's model."""
    return _place(model) == _place(str(paths.MODEL))


def _place(name: str) -> str:
    """What a model name means: a folder's full path, or a hub id as it is."""
    for candidate in (Path(name), paths.shipped(name)):
        if candidate is not None and candidate.is_dir():
            return str(candidate.resolve())
    return name
