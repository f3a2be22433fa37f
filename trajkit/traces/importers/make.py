"""From what a log says of a run to its Trace."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.errors import InputError
from trajkit.text import DIRECTION, require_plain
from trajkit.traces.images import MAX_BYTES, open_image, to_png
from trajkit.traces.importers.placing import place
from trajkit.traces.importers.run import SourceRun, ToldToken
from trajkit.traces.importers.scores import value_of
from trajkit.traces.importers.sentences import sentences
from trajkit.traces.importers.told import entropy_bound
from trajkit.traces.trace import Outcome, Step, StepKind, Trace

if TYPE_CHECKING:
    from trajkit.traces.judges import OutcomeJudge
    from trajkit.traces.questions import Question

MARKS = ("<answer>", "</answer>", "<|begin_of_box|>", "<|end_of_box|>")
"""Text of models that is left out of an answer, as their adapters do."""
_HALVES = re.compile("[\ud800-\udfff]")
_AS_THEY_ARE = ("images", "told", "tokens")
"""Of a SourceRun: what holds no text that is stored."""
MOST_PIXELS = 2**27
"""Of a run's images side by side."""
MOST_CHARACTERS = 2**24
"""Of a run's text; a longer one is refused."""


@dataclass(frozen=True)
class Said:
    """What is known of runs beside their log. outcomes: by transcript_id. questions: by id. model: its name, instead of
    the log's."""

    judge: OutcomeJudge | None = None
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    questions: Mapping[str, Question] = field(default_factory=dict)
    model: str | None = None


def make_trace(run: SourceRun, said: Said, source: dict[str, Any]) -> Trace:
    """The Trace of a run, without effects. source: `meta["source"]` without the id.

    Raises InputError where the run cannot be used: it has no text, or its image cannot be opened.
    """
    question = said.questions.get(run.task_id)
    run = _storable(run if question is None else _joined(run, question))
    require_plain(run.id, "its id", refused=DIRECTION)
    if len(run.thinking) + len(run.answer) > MOST_CHARACTERS:
        raise InputError(f"its text has more than {MOST_CHARACTERS:,} characters.")
    answer = _unmarked(run.answer) if run.closed else ""
    steps, counted = _steps(run)
    if not steps:
        raise InputError("it has neither reasoning nor an answer" + (f" (cut: {run.cut})." if run.cut else "."))
    image, sizes = _picture(run.images)
    success, outcome, score = _came_of(run, answer, said, question)
    meta = {
        **run.settings,
        **run.facts,
        **({"system": run.system} if run.system is not None else {}),
        **({"kind": run.form} if run.form else {}),
        **({"messages": run.messages} if run.messages else {}),
        **({"cut": run.cut} if run.cut else {}),
        **({"targets": list(run.targets)} if len(run.targets) > 1 else {}),
        **({"image_sizes": sizes} if len(sizes) > 1 else {}),
        **counted,
        **({"judge": said.judge.name} if said.judge else {}),
        "thinking_closed": run.closed,
        "written": {"thinking": run.thinking, "answer": run.answer},
        "source": source | {name: told for name in ("tool", "log", "id") if (told := getattr(run, name))},
    }
    return Trace(
        transcript_id=run.id,
        model=said.model or run.model,
        question=run.question,
        steps=steps,
        effects=np.zeros((len(steps), 0), np.float32),
        effects_kind=None,
        regions=np.zeros((0, 0), np.uint8),
        group_id=run.group_id or hashlib.sha256(image or run.question.encode()).hexdigest()[:16],
        task_set=run.task_set,
        task_id=run.task_id,
        task_repeat=run.repeat,
        score=score,
        success=success,
        answer=answer,
        target=run.targets[0] if run.targets else "",
        outcome=outcome,
        image=image,
        meta=meta,
        tokens=_token_ids(run.tokens),
    )


def _joined(run: SourceRun, question: Question) -> SourceRun:
    """The run with what is known of its question beside the log, which goes before what the log says."""
    from trajkit.files import read_plain

    try:
        image = read_plain(question.image, MAX_BYTES)
    except OSError as error:
        raise InputError(
            f"its question's image {question.image} cannot be read ({error.strerror or error})."
        ) from error
    return replace(
        run,
        images=(image,),
        targets=question.targets or run.targets,
        task_set=question.task_set or run.task_set,
        form=question.form or run.form,
    )


def _storable(run: SourceRun) -> SourceRun:
    """The run with halves of surrogate pairs, which JSON can hold and UTF-8 cannot, replaced."""
    told = {field.name: getattr(run, field.name) for field in fields(SourceRun) if field.name not in _AS_THEY_ARE}
    return replace(run, **{name: _utf8(value) for name, value in told.items()})


def _utf8(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else _HALVES.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {_utf8(key): _utf8(one) for key, one in value.items()}
    return type(value)(map(_utf8, value)) if isinstance(value, list | tuple) else value


def _unmarked(answer: str) -> str:
    for mark in MARKS:
        answer = answer.replace(mark, "")
    return answer.strip()


def _steps(run: SourceRun) -> tuple[tuple[Step, ...], dict[str, str]]:
    """The steps, and for `meta` what their tokens and entropies are."""
    thinking = sentences(run.thinking)
    answer = run.answer.strip() if run.closed else ""
    placed = place(run.told, thinking, answer or None) if run.told else None
    texts: list[tuple[str, StepKind]] = [(text, "thinking") for text in thinking]
    if answer:
        texts.append((_unmarked(answer) or answer, "answer"))
    ends = np.cumsum([0, *(len(text.split()) for text, _ in texts)]).tolist()
    steps, most = [], 0
    for number, (text, kind) in enumerate(texts):
        own = placed.ranges[number] if placed else None
        counted = own if own and placed and placed.whole else (ends[number], ends[number + 1])
        tokens = run.told[slice(*own)] if own else ()
        logprob, entropy = _uncertainty(tokens)
        most = max(most, 0 if entropy is None else max(len(token.top) for token in tokens))
        steps.append(Step(text, kind, counted[0], counted[1], logprob, entropy))
    facts = {} if placed and placed.whole else {"counted_in": "words"}
    return tuple(steps), facts | ({"entropy": f"lower bound from {most}"} if most else {})


def _uncertainty(tokens: Sequence[ToldToken]) -> tuple[float | None, float | None]:
    """Mean log-probability of a step's tokens, where told, and a lower bound of their mean entropy, nats."""
    told = [token.logprob for token in tokens if token.logprob is not None]
    bounds = [entropy_bound(token.top) for token in tokens if token.top]
    return float(np.mean(told)) if told else None, float(np.mean(bounds)) if bounds and len(bounds) == len(
        tokens
    ) else None


def _came_of(
    run: SourceRun, answer: str, said: Said, question: Question | None
) -> tuple[bool | None, Outcome, float | None]:
    """(success, outcome, score): by a label, else by the judge where there is one and it can tell, else by the log."""
    score, success = value_of(run.score)
    success = success if run.success is None else run.success
    label = said.outcomes.get(run.id)
    if label is not None:
        success = None if label == "unknown" else label == "success"
        return success, label, score if success is None else float(success)
    wrong: Outcome = (question and question.outcome) or "failure"
    if said.judge is not None and not run.cut:
        judged = said.judge(answer or None, run.targets, wrong)
        if judged.success is not None:
            return judged.success, judged.outcome, float(judged.success)
    return success, "unknown" if success is None else "success" if success else wrong, score


def _token_ids(tokens: tuple[int, ...] | None) -> NDArray[np.int32] | None:
    if tokens is None or all(type(token) is int and 0 <= token < 2**31 for token in tokens):
        return None if tokens is None else np.asarray(tokens, np.int32)
    raise InputError("its token ids are no whole numbers of at least 0.")


def _picture(images: tuple[bytes, ...]) -> tuple[bytes | None, list[list[int]]]:
    """The images as one, encoded as PNG or JPEG, and [width, height] of each."""
    if not images:
        return None, []
    return _pictured(images)


@lru_cache(maxsize=16)
def _pictured(images: tuple[bytes, ...]) -> tuple[bytes, list[list[int]]]:
    """Remembered, as many runs of a log are about the same image."""
    from PIL import Image

    from trajkit.vlm.canvas import Canvas

    opened: list[Image.Image] = []
    for image in images:
        opened.append(open_image(image))
        width, height = sum(one.width for one in opened), max(one.height for one in opened)
        if width * height > MOST_PIXELS:
            raise InputError(
                f"its {len(images)} images side by side have more than {MOST_PIXELS / 1e6:.0f} million pixels; give "
                "smaller ones with --questions."
            )
    sizes = [list(one.size) for one in opened]
    if len(images) == 1:
        with Image.open(io.BytesIO(images[0])) as encoded:
            if encoded.format in ("PNG", "JPEG"):
                return images[0], sizes
    return to_png(Canvas(tuple(opened)).picture), sizes
