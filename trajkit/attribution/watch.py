"""Watch: effects, verdicts and alarms of a generation that somebody else's program runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from trajkit.attribution.collect import pad_left
from trajkit.attribution.estimator import EffectEstimator
from trajkit.attribution.explainer import Explainer, LiveRun, Watching
from trajkit.attribution.loop import Callback, WatchedLoop
from trajkit.attribution.regions import Regions, segment
from trajkit.errors import InputError
from trajkit.traces.trace import Trace
from trajkit.vlm.canvas import Images, is_one
from trajkit.vlm.generation import Sampling
from trajkit.vlm.load import vlm_of
from trajkit.vlm.messages import Messages
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.settings import check_call

if TYPE_CHECKING:
    from trajkit.detection.monitor import Monitor
    from trajkit.detection.policies import Policy

_DROPS = "_extract_generation_mode_kwargs"
"""The method of transformers that loses streamer and tokenizer where a call has a loop of its own (seen in 5.23)."""
_PICTURES = ("image_grid_thw", "pixel_values")


class Watch:
    """A context in which one call of `generate` is watched. Made by `watch`.

    kwargs: what that call must be given beside its own arguments. runs: one for each sequence that it generates, in the
    order of its output; there from when the call begins.
    """

    def __init__(
        self,
        watching: Watching,
        prompts: Sequence[Prompt],
        regions: Sequence[Regions],
        on_step: Callback | None,
        on_alarm: Callback | None,
    ) -> None:
        self.runs: list[LiveRun] = []
        self._watching, self._prompts, self._regions = watching, prompts, regions
        self._on_step, self._on_alarm = on_step, on_alarm
        self._explainer = Explainer(watching.vlm)
        self._loop: WatchedLoop | None = None
        self._stopped = False
        self._entered = False
        self._pictures: dict[str, Tensor] = {}

    @property
    def kwargs(self) -> dict[str, Any]:
        """Further arguments for `model.generate`; all of its others stay free."""
        return {"custom_generate": self._decode}

    def __enter__(self) -> Watch:
        _mend(self._watching.vlm.model)
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises InputError where nothing was watched, since an alarm that cannot come is taken for none."""
        self._entered = False
        _unmend(self._watching.vlm.model)
        if error is None and self._loop is None:
            raise InputError(
                "nothing was generated under this watch; call model.generate(**inputs, **run.kwargs) in its block, and "
                "wait there for a thread that calls it."
            )

    def stop(self) -> None:
        """End the generation after its next token, or, called before it begins, its first. Safe to call from a callback
        and from any thread.

        >>> with tk.watch(
        ...     vlm.model, vlm.processor, image, question, estimator=estimator, on_step=lambda step: run.stop()
        ... ) as run:
        ...     output = vlm.model.generate(**run.inputs, **run.kwargs, do_sample=False, max_new_tokens=60)
        >>> run.trace().n_steps  # and no more
        2
        """
        self._stopped = True
        if self._loop is not None:
            self._loop.stopped = True

    @property
    def held_bytes(self) -> int:
        """Most memory that attribution held at once beside the model's own cache, bytes."""
        return self._explainer.held_bytes

    def wait(self) -> None:
        """Wait until every step that has ended so far is explained."""
        self._explainer.flush()

    def trace(self, *, target: str | None = None, group_id: str | None = None) -> Trace:
        """The only run as a Trace, as by `LiveRun.trace`; of several, ask each of `runs`.

        Raises InputError where there is no run yet, or more than one.
        """
        if len(self.runs) != 1:
            raise InputError(
                f"this watch has {len(self.runs)} runs; ask each for its trace: [run.trace() for run in watch.runs]."
                if self.runs
                else "nothing has been generated under this watch yet."
            )
        return self.runs[0].trace(target=target, group_id=group_id)

    def _decode(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        assistant_model: Any = None,
        tokenizer: Any = None,
        **model_kwargs: Any,
    ) -> Any:
        """What `generate` calls with all that it has prepared."""
        if not self._entered:
            raise InputError("a watch is a context: with tk.watch(...) as run: model.generate(**inputs, **run.kwargs)")
        if self._loop is not None:
            raise InputError("this watch has had its generation; make another one for each call of generate.")
        if model is not self._watching.vlm.model:
            raise InputError("this watch is of another model than the one that generates.")
        check_call(generation_config, assistant_model, model_kwargs.get("past_key_values"))
        padding = self._check_inputs(input_ids, model_kwargs)
        each = len(input_ids) // len(self._prompts)
        sampling = _sampling(generation_config, input_ids.shape[1])
        for row in range(len(input_ids)):
            run = LiveRun(self._watching, self._prompts[row // each], self._regions[row // each], row)
            run.sampling = sampling
            self.runs.append(run)
        self._loop = WatchedLoop(self._watching.vlm, self._explainer, self._on_step, self._on_alarm)
        if self._stopped:
            self._loop.stopped = True
        self._explainer.thread.start()
        try:
            return self._loop.decode(
                self.runs,
                padding,
                model,
                input_ids,
                logits_processor,
                stopping_criteria,
                generation_config,
                **model_kwargs,
            )
        finally:
            self._explainer.close()

    def _check_inputs(self, input_ids: Tensor, given: Mapping[str, Any]) -> list[int]:
        """How many pad tokens stand at the left of each row. Raises InputError where the rows are not the prompts'."""
        n, asked = len(input_ids), len(self._prompts)
        if n % asked:
            raise InputError(f"this watch is of {asked} prompts, and generate was given {n}; give it the same ones.")
        padding = []
        mask = given.get("attention_mask")
        for row in range(n):
            own = self._prompts[row // (n // asked)].inputs["input_ids"][0]
            pad = input_ids.shape[1] - len(own)
            where = "" if n == 1 else f" of row {row}"
            if pad < 0 or not torch.equal(input_ids[row, pad:], own.to(input_ids.device)):
                raise InputError(
                    f"the tokens{where} that generate was given are not those of the images and the question that the "
                    "watch was given, written by the model's chat template (padded at the left, if at all). Give both "
                    "the same images, text and system prompt, or generate from run.inputs."
                )
            seen = torch.ones_like(input_ids[row]) if mask is None else mask[row]
            if seen[:pad].any() or not seen[pad:].all():
                raise InputError(
                    f"the attention mask{where} must hide the {pad} pad tokens at its left and nothing else."
                )
            padding.append(pad)
        self._check_images()
        return padding

    def _check_images(self) -> None:
        """Raises InputError where the pictures are others than the prompts', as the model takes them."""
        for name in _PICTURES:
            found = self._pictures.get(name)
            own = torch.cat([prompt.inputs[name] for prompt in self._prompts])
            if found is None:  # read by the vision tower beforehand
                continue
            alike = found.shape == own.shape and torch.allclose(found.to(own.device, own.dtype), own, atol=1e-2)
            if not alike:
                raise InputError(
                    f"the {name} that generate was given are not those of the images that the watch was given; give "
                    "both the same images, in the same order, through the same processor."
                )

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What `model.generate` can be given for these prompts, as a batch padded on the left."""
        return pad_left([prompt.inputs for prompt in self._prompts], self._watching.vlm.tokenizer.pad_token_id)


_mended: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
"""Models that are mended, and for how many watches."""
_mending = Lock()


def _mend(model: Any) -> None:
    """Have a watched call of `generate` keep its streamer and tokenizer, which transformers would drop."""
    with _mending:
        _mended[model] = _mended.get(model, 0) + 1
        dropping = getattr(model, _DROPS, None)
        if _mended[model] > 1 or dropping is None:
            return

        def keeping(custom_generate: Any, given: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            own = getattr(custom_generate, "__self__", None)
            if not isinstance(own, Watch):
                return dropping(custom_generate, given, *args, **kwargs)
            own._pictures = {name: given[name] for name in _PICTURES if name in given}
            return dropping(None, given, *args, **kwargs)

        setattr(model, _DROPS, keeping)


def _unmend(model: Any) -> None:
    with _mending:
        _mended[model] -= 1
        if not _mended[model] and _DROPS in vars(model):
            delattr(model, _DROPS)


def watch(
    model: Any,
    processor: Any,
    images: Images | Sequence[Images] | None = None,
    question: str | Messages | Sequence[str | Messages] | None = None,
    *,
    messages: Messages | Sequence[Messages] | None = None,
    estimator: EffectEstimator,
    monitor: Monitor | None = None,
    policy: Policy | None = None,
    on_step: Callback | None = None,
    on_alarm: Callback | None = None,
    regions: Regions | None = None,
    system: str | None = None,
    task_set: str = "",
    form: str = "",
) -> Watch:
    """Watch a call of `generate` that is yours: steps with their effects and verdicts while the model writes.

        with tk.watch(model, processor, image, question, estimator=estimator, monitor=monitor, on_alarm=act) as run:
            output = model.generate(**inputs, **run.kwargs)
        trace = run.trace()

    model, processor: of transformers, of an architecture that `load_vlm` knows, as they are. images, question: what
    `inputs` were made of, by the model's chat template; in place of the question a chat (`VLM.prepare_chat`), here or
    as `messages`. For several prompts at once, padded at the left: lists of as many of each. regions: for a single
    prompt, as from `segment`. system: the system prompt, if there is one.

    The tokens are those that come without a watch. Any argument of `generate` will do that draws one token after
    another: sampling, penalties, stop strings, a streamer, processors and criteria of your own, several sequences a
    prompt (`num_return_sequences`). Beams, a model that drafts and caches that do not keep every key are refused before
    the first token, and so are inputs that are not those of the prompt.

    on_step, on_alarm: called with each LiveStep, and each that alarms, in order, by the thread that generates, between
    two tokens; its `row` says of which sequence. What they raise ends the generation and comes out of `generate`, as
    does what attribution fails with (StreamError). Interrupted or not, `run.trace()` has what there is. policy: as in
    `stream`, but for "ask again", which a running call cannot do.

    Raises InputError and EstimatorMismatchError as `stream` does.

    See also: `stream`, `follow`, `json_lines`.

    >>> heard = []
    >>> with tk.watch(vlm.model, vlm.processor, image, question, estimator=estimator, on_step=heard.append) as run:
    ...     output = vlm.model.generate(**run.inputs, **run.kwargs, do_sample=False, max_new_tokens=60)
    >>> heard[0].text, run.trace().n_steps == len(heard)
    ('row 1 col 1 is red 2.', True)
    """
    if policy is not None and policy.on_alarm == "ask again":
        raise InputError(
            "a watched call of generate cannot ask again, since it is yours to begin; use on_alarm='stop' and call "
            "generate once more, or tk.stream."
        )
    vlm = vlm_of(model, processor, system)
    watching = Watching(vlm, estimator, monitor, policy, task_set, form)
    watching.check()
    prompts = _prompts(vlm, images, question, messages)
    if regions is not None:
        estimator.check_regions(regions.method)
        if len(prompts) != 1:
            raise InputError("regions can be given for a single prompt only; leave them out.")
        return Watch(watching, prompts, [regions], on_step, on_alarm)
    drawn = [segment(prompt.canvas.images, estimator.binding.region_method, vlm=vlm) for prompt in prompts]
    return Watch(watching, prompts, drawn, on_step, on_alarm)


def _prompts(vlm: VLM, images: Any, question: Any, messages: Any) -> list[Prompt]:
    """One, or for lists of questions or chats as many."""
    asked = question if messages is None else messages
    if (question is not None and messages is not None) or not isinstance(asked, list | tuple) or _is_chat(asked):
        return [vlm.prompt(images, question, messages)]
    given = [None] * len(asked) if images is None else images
    if is_one(given) or len(given) != len(asked) or not asked:
        raise InputError("several prompts are given in a list, with a list of as many images, or lists of them.")
    return [vlm.prompt(*one) for one in zip(given, asked, strict=True)]


def _is_chat(asked: Sequence[Any]) -> bool:
    return len(asked) > 0 and isinstance(asked[0], Mapping)


def _sampling(config: Any, prompt_length: int) -> Sampling:
    """How a call of `generate` draws, for the record: as its settings have been prepared."""
    strings = config.stop_strings
    if not config.do_sample:
        return Sampling(0.0, config.max_length - prompt_length, stop_strings=strings)
    temperature = 1.0 if config.temperature is None else config.temperature
    return Sampling(temperature, config.max_length - prompt_length, None, config.top_p, config.top_k, strings)
