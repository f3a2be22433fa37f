"""Fitted detectors in a folder: one JSON file, written whole or not at all, with a hash over all it holds. No pickle.

The hash tells a file that was damaged or changed by hand from the one that was written; it is no signature.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trajkit.detection.copies import Keyed, groups_with
from trajkit.detection.monitor import Monitor
from trajkit.detection.state import read
from trajkit.errors import EstimatorMismatchError, InputError
from trajkit.files import replacing
from trajkit.fingerprints import ModelId
from trajkit.runs.keys import KEY_BYTES
from trajkit.strict_json import parse_json

if TYPE_CHECKING:
    from trajkit.detection.early_failure import EarlyFailurePredictor
    from trajkit.detection.outcome import OutcomeClassifier
    from trajkit.detection.step_predictor import StepPredictor
    from trajkit.runs.table import RunTable

FILE = "detectors.json"
FORMAT = "trajkit-detectors"
VERSION = 5
_WITHOUT_KEYS, _WITHOUT_ENOUGH = 3, 4
"""Versions that are read too: files of neither hold a monitor of success or what the calibration was like, and those of
the first do not say which images they were made from."""
MONITOR_FILE = "monitor.json"
MONITOR_FORMAT = "trajkit-monitor"
MONITOR_VERSION = 1
STEPS_FILE = "steps.json"
STEPS_FORMAT = "trajkit-step-predictor"
STEPS_VERSION = 1


class Known(NamedTuple):
    """Groups that detectors were made from. named: by their ids. copies: others, with runs of the same images and
    questions, or the same runs."""

    named: frozenset[str]
    copies: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        return self.named | self.copies


@dataclass(frozen=True, eq=False)
class Detectors:
    """What `trajkit fit` makes. outcome: None where the runs did not have two known outcomes to tell apart.

    card: what a reader should know, JSON-able: model, alpha, seed, numbers of runs and groups, the groups of each part.
    keys: of the runs they were fitted or calibrated on (`copies.keyed`); None where that is not known.
    enough: the monitor that watches success; None in files of older versions.

    See also: `fit_detectors`, `load_detectors`, `save_detectors`.

    >>> detectors.card["alpha"], len(detectors.seen)
    (0.1, 360)
    >>> detectors.monitor.can_alarm
    True
    """

    predictor: EarlyFailurePredictor
    outcome: OutcomeClassifier | None
    monitor: Monitor
    card: Mapping[str, Any] = field(default_factory=dict)
    keys: frozenset[bytes] | None = None
    enough: Monitor | None = None

    def __repr__(self) -> str:
        outcome = "no outcome classifier" if self.outcome is None else "an outcome classifier"
        return f"Detectors(for {self.model}: {self.predictor.features}, {outcome}, {self.monitor!r})"

    def _repr_html_(self) -> str:
        from trajkit.notebook.models import detectors_html

        return detectors_html(self)

    @property
    def model(self) -> str:
        """Name of the model whose runs the detectors were fitted on."""
        return str(self.card.get("model", ""))

    @property
    def seen(self) -> frozenset[str]:
        """The group_ids that they were fitted or calibrated on, as the card says: how they do there says nothing."""
        return frozenset((*self.card.get("fit_groups", ()), *self.card.get("calibration_groups", ())))

    def known(self, runs: Keyed) -> Known:
        """Which groups of these runs (`copies.keyed`) they were fitted or calibrated on, under whatever id."""
        named = frozenset(group for group, _ in runs) & self.seen
        return Known(named, groups_with(runs, self.keys or ()) - named)

    @property
    def made_for(self) -> ModelId:
        """The model whose runs the detectors were fitted on."""
        return ModelId(self.model, str(self.card.get("fingerprint", "")))

    def others(self, models: Iterable[ModelId]) -> list[ModelId]:
        """Those of some models that are not the one they are made for (`ModelId.is_same`)."""
        return [model for model in models if not model.is_same(self.made_for)]

    def refuse(self, other: ModelId) -> EstimatorMismatchError:
        """The error that says that runs are of another model."""
        return EstimatorMismatchError(
            f"the detectors were fitted on runs of {self.model!r}, these traces hold runs of {other.name!r}."
            f"{self.made_for.difference(other)} Fit detectors on runs of that model (`trajkit fit`)."
        )

    def unlike(self, runs: RunTable) -> str:
        """Which of these runs have lengths or entropies of another kind than those that they were made from, words and
        tokens, and what follows, in words; "" where none has, as far as they read them."""
        from trajkit.runs.units import unlike

        return unlike(self.card, self.predictor.map_.sets, runs)

    def check(self, model: str, fingerprint: str = "") -> None:
        """Raises EstimatorMismatchError when they were fitted on runs of another model (see `Monitor.check`).

        >>> detectors.check(traces[0].model)  # made for it: nothing is raised
        >>> detectors.check("another model")
        Traceback (most recent call last):
            ...
        trajkit.errors.EstimatorMismatchError: this monitor was calibrated on runs of 'data/demo/model' and ...
        """
        self.monitor.check(model, fingerprint)


def save_detectors(folder: str | Path, detectors: Detectors) -> Path:
    """Write `folder`/detectors.json atomically (temp file + rename) and return its path.

    Raises InputError where it cannot be written (a full disk, a folder that is a file); an older file is then intact.

    See also: `load_detectors`, `Detectors`.

    >>> tk.detection.save_detectors(folder, detectors).name
    'detectors.json'
    """
    return _write(
        Path(folder) / FILE,
        {
            "format": FORMAT,
            "version": VERSION,
            "card": dict(detectors.card),
            "predictor": detectors.predictor.to_state(),
            "outcome": None if detectors.outcome is None else detectors.outcome.to_state(),
            "monitor": detectors.monitor.to_state(),
            "enough": None if detectors.enough is None else detectors.enough.to_state(),
            "keys": None if detectors.keys is None else base64.b64encode(b"".join(sorted(detectors.keys))).decode(),
        },
    )


def load_detectors(folder: str | Path) -> Detectors:
    """Read what `save_detectors` wrote.

    Raises InputError when the file is missing, no JSON, of another format or version, changed since it was written, or
    holds parts of the wrong shape or out of range; EstimatorMismatchError when it reads features that this version of
    trajkit does not compute.

    See also: `save_detectors`, `Detectors`.

    >>> tk.detection.load_detectors("data/demo/detectors").predictor.features
    'trajectory+concentration+uncertainty+length'
    """
    path = Path(folder) / FILE
    record = _read(path, FORMAT, (_WITHOUT_KEYS, _WITHOUT_ENOUGH, VERSION))
    from trajkit.detection.early_failure import EarlyFailurePredictor
    from trajkit.detection.outcome import OutcomeClassifier

    with _named(path):
        predictor = EarlyFailurePredictor.from_state(read(record, "predictor", dict))
        state = read(record, "outcome", (dict, type(None)))
        enough = read(record, "enough", (dict, type(None))) if record["version"] == VERSION else None
        return Detectors(
            predictor=predictor,
            outcome=None if state is None else OutcomeClassifier.from_state(state),
            monitor=Monitor.from_state(read(record, "monitor", dict), predictor),
            card=_card(read(record, "card", dict)),
            keys=None if record["version"] == _WITHOUT_KEYS else _keys(read(record, "keys", (str, type(None)))),
            enough=None if enough is None else Monitor.from_state(enough, predictor),
        )


def save_monitor(folder: str | Path, monitor: Monitor) -> Path:
    """Write `folder`/monitor.json: one monitor, with its predictor where it has one. As `save_detectors`."""
    predictor = None if monitor.predictor is None else monitor.predictor.to_state()
    parts = {"predictor": predictor, "monitor": monitor.to_state()}
    return _write(Path(folder) / MONITOR_FILE, {"format": MONITOR_FORMAT, "version": MONITOR_VERSION} | parts)


def load_monitor(folder: str | Path) -> Monitor:
    """Read what `save_monitor` wrote. Raises as `load_detectors`."""
    path = Path(folder) / MONITOR_FILE
    if not path.exists():
        more = " It holds detectors: load_detectors(folder).monitor is theirs." if (path.parent / FILE).exists() else ""
        raise InputError(f"no monitor in {str(folder)!r}: expected {MONITOR_FILE}, as Monitor.save writes it.{more}")
    record = _read(path, MONITOR_FORMAT, (MONITOR_VERSION,))
    from trajkit.detection.early_failure import EarlyFailurePredictor

    with _named(path):
        state = read(record, "predictor", (dict, type(None)))
        predictor = None if state is None else EarlyFailurePredictor.from_state(state)
        return Monitor.from_state(read(record, "monitor", dict), predictor)


def save_step_predictor(folder: str | Path, predictor: StepPredictor) -> Path:
    """Write `folder`/steps.json. As `save_detectors`."""
    record = {"format": STEPS_FORMAT, "version": STEPS_VERSION, "predictor": predictor.to_state()}
    return _write(Path(folder) / STEPS_FILE, record)


def load_step_predictor(folder: str | Path) -> StepPredictor:
    """Read what `save_step_predictor` wrote. Raises as `load_detectors`."""
    path = Path(folder) / STEPS_FILE
    if not path.exists():
        raise InputError(
            f"no predictor of sentences in {str(folder)!r}: expected {STEPS_FILE}, as StepPredictor.save writes it."
        )
    record = _read(path, STEPS_FORMAT, (STEPS_VERSION,))
    from trajkit.detection.step_predictor import StepPredictor

    with _named(path):
        return StepPredictor.from_state(read(record, "predictor", dict))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of the parts of a file name it."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{path}: {error}") from error


def _write(path: Path, record: dict[str, Any]) -> Path:
    """The record with its hash. Raises InputError."""
    try:
        record["hash"] = _hash(record)
        text = json.dumps(record, indent=1, allow_nan=False, sort_keys=True) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(f"the card of detectors must hold plain JSON values: {error}.") from error
    with replacing(path) as file:
        file.write(text.encode())
    return path


def _read(path: Path, form: str, versions: Sequence[int]) -> dict[str, Any]:
    """The record of a file, of one of these versions and as it was written. Raises InputError."""
    try:
        record = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"no detectors in {str(path.parent)!r}: expected a readable file {path.name} ({error.strerror}). "
            "Make it with `trajkit fit`."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged, it is not JSON: {error}. Make it again with `trajkit fit`.") from error
    if not isinstance(record, dict) or record.get("format") != form:
        raise InputError(f"{path} does not hold trajkit detectors (no format {form!r}).")
    if record.get("version") not in versions:
        raise InputError(
            f"{path} is of version {record.get('version')!r}; this trajkit reads version {versions[-1]}. "
            "Fit the detectors again with `trajkit fit`."
        )
    if record.get("hash") != _hash({key: value for key, value in record.items() if key != "hash"}):
        raise InputError(
            f"{path} is not what was written: its hash does not fit what it holds, so it was damaged or changed by "
            "hand. Make it again with `trajkit fit`."
        )
    return record


def _hash(record: Mapping[str, Any]) -> str:
    """SHA-256 of all that a file holds beside the hash itself."""
    text = json.dumps(record, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _card(card: dict[str, Any]) -> dict[str, Any]:
    """A card, its parts that are read being what they are read as. Raises InputError."""
    for part in ("fit_groups", "calibration_groups", "test_groups"):
        names = card.get(part, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"the card of saved detectors must hold {part!r} as a list of group ids.")
    for part in ("counted_in", "entropies"):
        kinds = card.get(part, ["?"])
        if not isinstance(kinds, list) or not kinds or not all(isinstance(kind, str) for kind in kinds):
            raise InputError(f"the card of saved detectors must hold {part!r} as a list of texts.")
    return card


def _keys(text: str | None) -> frozenset[bytes] | None:
    """Keys of KEY_BYTES, one after another in base64. Raises InputError."""
    if text is None:
        return None
    try:
        joined = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InputError(f"saved detectors must hold 'keys' in base64: {error}. Fit the detectors again.") from error
    if len(joined) % KEY_BYTES:
        raise InputError(
            f"saved detectors must hold 'keys' of {KEY_BYTES} bytes each; found {len(joined)} bytes. Fit the detectors "
            "again."
        )
    return frozenset(joined[at : at + KEY_BYTES] for at in range(0, len(joined), KEY_BYTES))
