"""Token ids of saved runs: those that were written, from ids, from exact text, and from bare sentences."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from trajkit.attribution.collect import collect
from trajkit.attribution.recovered import recover_tokens
from trajkit.attribution.tokens import TokensError
from trajkit.demo.items import demo_items
from trajkit.errors import InputError
from trajkit.traces.trace import Step, Trace
from trajkit.vlm.generation import Sampling
from trajkit.vlm.pieces import TextPieces
from trajkit.vlm.sentences import split_steps


@pytest.fixture(scope="module")
def saved(demo_vlm, demo_estimator):
    items = list(demo_items("test", 5, seed=3))
    return list(collect(demo_vlm, items, estimator=demo_estimator, sampling=Sampling(1.2, 200, 3)))


@pytest.fixture(scope="module")
def prompt(demo_vlm, scene_image):
    return demo_vlm.prepare(scene_image, "sort row 2 down.")


def written_of(vlm, tokens):
    """`meta["written"]` of tokens, as an importer has it of a server's text."""
    pieces = TextPieces(vlm)
    found = [piece for token in tokens for piece in pieces.push(int(token))] + pieces.finish()
    return {side: "".join(text for kind, text in found if kind == side) for side in ("thinking", "answer")}


def of_text(vlm, trace, counted="words", **meta):
    """The run as an importer has it of a log that tells no ids."""
    said = {"counted_in": counted} if counted else {}
    return replace(trace, tokens=None, meta=dict(trace.meta) | {"written": written_of(vlm, trace.tokens)} | said | meta)


def test_ids_that_a_run_tells_are_taken(demo_vlm, saved, prompt):
    for trace in saved:
        found = recover_tokens(demo_vlm, trace, prompt)
        assert (found.tokens, found.source, found.doubt) == (trace.tokens.tolist(), "told", "")
        assert found.split == split_steps(found.tokens, demo_vlm)


@pytest.mark.parametrize(("counted", "source"), [("words", "unchecked"), ("", "made")])
def test_ids_made_of_exact_text_are_those_that_were_written(demo_vlm, saved, prompt, counted, source):
    for trace in saved:
        found = recover_tokens(demo_vlm, of_text(demo_vlm, trace, counted), prompt)
        assert (found.tokens, found.source) == (trace.tokens.tolist(), source)


@pytest.mark.parametrize(("more", "fits"), [(0, True), (-1, True), (1, False), (-2, False)])
def test_the_number_that_a_server_counts_is_that_of_the_ids_with_or_without_the_last(
    demo_vlm, saved, prompt, more, fits
):
    trace = next(trace for trace in saved if trace.meta["thinking_closed"])
    run = of_text(demo_vlm, trace, completion_tokens=len(trace.tokens) + more)
    if fits:
        assert recover_tokens(demo_vlm, run, prompt).source == "made"
        return
    with pytest.raises(TokensError, match=f"makes {len(trace.tokens)} tokens here, .* in {len(trace.tokens) + more}:"):
        recover_tokens(demo_vlm, run, prompt)
    stopped = of_text(demo_vlm, trace, completion_tokens=len(trace.tokens) + more, cut="stop string")
    assert recover_tokens(demo_vlm, stopped, prompt).source == "unchecked"


def test_ids_made_of_the_texts_of_steps_are_those_that_were_written(demo_vlm, saved, prompt):
    for trace in saved:
        found = recover_tokens(demo_vlm, replace(trace, tokens=None), prompt)
        assert (found.tokens, found.source) == (trace.tokens.tolist(), "made")
        words = replace(trace, tokens=None, meta=dict(trace.meta) | {"counted_in": "words"})
        assert recover_tokens(demo_vlm, words, prompt).tokens == trace.tokens.tolist()


def test_a_run_that_was_cut_has_no_token_that_ends_it(demo_vlm, saved, prompt):
    trace = next(trace for trace in saved if trace.meta["thinking_closed"])
    cut = recover_tokens(demo_vlm, of_text(demo_vlm, trace, cut="length"), prompt)
    assert cut.tokens == trace.tokens.tolist()[:-1]
    at = trace.tokens.tolist().index(demo_vlm.think_end)
    thinking = tuple(step for step in trace.steps if step.kind == "thinking")
    within = replace(
        of_text(demo_vlm, trace, cut="length", thinking_closed=False),
        steps=thinking,
        effects=trace.effects[: len(thinking)],
    )
    assert recover_tokens(demo_vlm, within, prompt).tokens == trace.tokens.tolist()[:at]


def test_a_run_of_as_many_tokens_as_it_might_have_was_cut(demo_vlm, saved, prompt):
    trace = saved[0]
    n = len(trace.tokens)
    for most, expected in ((n, n), (n - 1, n - 1)):
        found = recover_tokens(demo_vlm, of_text(demo_vlm, trace, max_new_tokens=most), prompt)
        assert len(found.tokens) == expected


def test_ids_of_another_text_are_not_used_and_it_is_said(demo_vlm, saved, prompt):
    trace, other = saved[0], saved[1]
    wrong = replace(of_text(demo_vlm, trace, ""), tokens=other.tokens)
    found = recover_tokens(demo_vlm, wrong, prompt)
    assert (found.tokens, found.source) == (trace.tokens.tolist(), "made")
    assert "the ids that it tells are not used: its tokens decode to" in found.doubt
    unknown = replace(of_text(demo_vlm, trace, ""), tokens=np.array([10**6], np.int32))
    assert "are not used" in recover_tokens(demo_vlm, unknown, prompt).doubt


def test_a_text_of_more_tokens_than_were_written_is_not_what_this_model_wrote(demo_vlm, saved, prompt):
    trace = saved[0]
    steps = (*trace.steps[:-1], replace(trace.steps[-1], token_end=trace.steps[-1].token_end + 2))
    with pytest.raises(TokensError, match=r"makes \d+ tokens here, where it was written in \d+: another tokenizer"):
        recover_tokens(demo_vlm, replace(of_text(demo_vlm, trace, ""), steps=steps), prompt)
    with pytest.raises(TokensError, match=r"step \d+ of it, .* makes no \d+ tokens here"):
        recover_tokens(demo_vlm, replace(trace, tokens=None, steps=steps), prompt)


def test_a_sampled_text_may_be_of_this_model_and_in_other_pieces_and_that_is_said(demo_vlm, saved, prompt):
    trace = replace(saved[0], tokens=None)
    steps = (*trace.steps[:-1], replace(trace.steps[-1], token_end=trace.steps[-1].token_end + 2))
    with pytest.raises(TokensError, match=r"another tokenizer wrote it, or it was sampled in other pieces.*ids"):
        recover_tokens(demo_vlm, replace(trace, steps=steps), prompt)


def test_text_of_another_model_and_text_without_reasoning_are_refused(demo_vlm, saved, prompt):
    trace = saved[0]
    strange = {"thinking": "A turquoise submarine.", "answer": "yes"}
    with pytest.raises(TokensError, match="no tokens of this model's"):
        recover_tokens(demo_vlm, of_text(demo_vlm, trace, written=strange), prompt)
    other = {"thinking": " row 1 col 1 is empty.", "answer": " yes"}
    with pytest.raises(TokensError, match="tokens decode to '1col1isempty"):
        recover_tokens(demo_vlm, of_text(demo_vlm, trace, written=other), prompt)
    alone = {"thinking": "", "answer": " yes"}
    with pytest.raises(InputError, match="no reasoning, which this model begins with"):
        recover_tokens(demo_vlm, of_text(demo_vlm, trace, written=alone), prompt)


def test_more_tokens_than_the_context_holds_are_refused(demo_vlm, saved, prompt):
    limit = demo_vlm.text_config.max_position_embeddings
    words = " row" * limit + "."
    steps = (Step(words.strip(), "thinking", 0, 1, None, None),)
    meta = {"counted_in": "words", "written": {"thinking": words, "answer": ""}, "thinking_closed": False}
    long = replace(saved[0], tokens=None, steps=steps, effects=np.zeros((1, 0), np.float32), meta=meta)
    with pytest.raises(InputError, match="the model's context ends at"):
        recover_tokens(demo_vlm, long, prompt)


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}"
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}"
    "{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if opens %}<think>\n{% endif %}{% endif %}"
)
THINKING = "Okay, the 7 is red.\nIt is 3.5 cm wide (see Fig. 2). Wait, let me look again.\n\nYes, two of them."
ANSWER = "There are **2** red digits.\n\nDone"


class Templated:
    """A processor of a tokenizer with a chat template."""

    def __init__(self, tokenizer, opens):
        self.tokenizer, self._opens = tokenizer, opens

    def apply_chat_template(self, turns, **options):
        return self.tokenizer.apply_chat_template(turns, opens=self._opens, **options)


@pytest.fixture(params=["tag is a token", "tag is text"])
def byte_pairs(request, demo_vlm):
    """The demo model with a byte-level tokenizer as Qwen's, trained on what it is to write. opens: whether prompts open
    the thinking."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = [
        "<|im_start|>",
        "<|im_end|>",
        "<|image|>",
        *(["<think>", "</think>"] if "token" in request.param else []),
    ]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    raw.train_from_iterator([THINKING + "\n\n" + ANSWER] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", chat_template=TEMPLATE)

    model = copy.deepcopy(demo_vlm.model)
    model.resize_token_embeddings(len(tokenizer))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return lambda opens: replace(demo_vlm, model=model, processor=Templated(tokenizer, opens))


@pytest.mark.parametrize("opens", [True, False])
@pytest.mark.parametrize("kept", ["exact", "stripped"])
@pytest.mark.parametrize("counts", [True, False])
def test_a_byte_level_tokenizer_writes_white_space_that_tools_take_away(byte_pairs, opens, kept, counts, demo_vlm):
    """What stands around the closing tag is put back as the chat template has it."""
    vlm = byte_pairs(opens)
    encode = vlm.tokenizer.encode
    tags = [[vlm.think_start], [vlm.think_end]] if vlm.think_end else [encode("<think>"), encode("</think>")]
    tokens = ([] if opens else tags[0] + encode("\n")) + encode(THINKING + "\n") + tags[1] + encode("\n\n" + ANSWER)
    tokens += vlm.end_tokens
    spans, texts, closed = split_steps(tokens, vlm)
    assert closed
    steps = tuple(
        Step(text, span.kind, span.start, span.end, None, None) for span, text in zip(spans, texts, strict=True)
    )
    thinking = THINKING if kept == "stripped" else ("" if opens else "\n") + THINKING + "\n"
    meta = {
        "thinking_closed": True,
        "written": {"thinking": thinking, "answer": ANSWER if kept == "stripped" else "\n\n" + ANSWER},
        **({} if counts else {"counted_in": "words"}),
    }
    run = Trace(
        "a", "m", "q", steps, np.zeros((len(steps), 0), np.float32), None, np.zeros((0, 0), np.uint8), "g", meta=meta
    )
    found = recover_tokens(vlm, run, SimpleNamespace(length=10))
    assert found.tokens == tokens
    assert found.source == ("made" if counts else "unchecked")
