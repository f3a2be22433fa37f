"""Ablation: the measured effect of hiding regions, by running the model again without them.

effect Δ_k(S) = Σ_{t∈S} [log p(y_t | x, y_<t) − log p(y_t | ablate(x, R_k), y_<t)], nats; positive: the region
supports the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from trajkit.attribution.features import token_weights
from trajkit.attribution.regions import Regions
from trajkit.attribution.uncertainty import LOGITS_AT_ONCE
from trajkit.errors import InputError
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Span

Ablation = Literal["mean", "blur", "gray", "tokens"]


def fill(image: Image.Image, ablation: Ablation) -> NDArray[np.uint8]:
    """(H, W, 3): what hidden pixels are replaced by: the image's mean colour, a blurred copy, or mid grey."""
    pixels = np.asarray(image)
    if ablation == "blur":
        return np.asarray(image.filter(ImageFilter.GaussianBlur(max(image.size) / 16)))
    value = pixels.reshape(-1, 3).mean(0).round() if ablation == "mean" else np.full(3, 128)
    return np.broadcast_to(value.astype(np.uint8), pixels.shape)


def step_logprobs(token_logprobs: Tensor, spans: Sequence[Span]) -> NDArray[np.float64]:
    """(B, n) log-probabilities of the generated tokens → (B, T) sums over each step."""
    running = torch.nn.functional.pad(token_logprobs.double().cumsum(-1), (1, 0))
    starts = torch.tensor([s.start for s in spans], device=running.device)
    ends = torch.tensor([s.end for s in spans], device=running.device)
    return (running[:, ends] - running[:, starts]).cpu().numpy()


@torch.inference_mode()
def measure_effects(
    vlm: VLM,
    prompt: Prompt,
    tokens: Tensor,
    spans: Sequence[Span],
    regions: Regions,
    masks: NDArray[np.bool_],
    ablation: Ablation = "mean",
    batch_size: int = 64,
    advance: Callable[[int], None] = lambda n: None,
) -> NDArray[np.float64]:
    """Measured effect of each mask on each step, (M, T), nats.

    tokens: (n,) generated ids. masks: (M, K), True where a region is hidden; `np.eye(K, dtype=bool)` measures each
    region by itself. One teacher-forced pass a mask, `batch_size` at a time; `advance` is told how many are done.
    Raises InputError for an unknown ablation or masks of another K.
    """
    if ablation not in get_args(Ablation):
        raise InputError(f"ablation must be one of {', '.join(get_args(Ablation))}; got {ablation!r}.")
    if masks.ndim != 2 or masks.shape[1] != regions.k:
        raise InputError(f"masks must be (M, {regions.k}), one column a region; got shape {masks.shape}.")
    inputs: dict[str, Any] = {**prompt.followed_by(tokens)}
    inputs["position_ids"] = vlm.position_ids(inputs)  # the same for every mask
    if ablation == "tokens":
        inputs |= {"mm_encoder_outputs": vlm.encode_images(prompt)}  # so is what the vision tower sees
        del inputs["pixel_values"]
    hide = _hide_tokens if ablation == "tokens" else _hide_pixels
    intact = np.zeros((1, regions.k), dtype=bool)
    measured = []
    for start in range(0, len(masks) + 1, batch_size):
        chunk = np.concatenate([intact, masks])[start : start + batch_size]
        batch = hide(vlm, prompt, inputs, regions, chunk, ablation)
        hidden = vlm.model.model(**batch, use_cache=False).last_hidden_state[:, -len(tokens) - 1 : -1]  # (B, n, D)
        measured.append(step_logprobs(_token_logprobs(vlm, hidden, tokens), spans))
        advance(len(chunk))
    logprobs = np.concatenate(measured)  # (1 + M, T)
    return logprobs[0] - logprobs[1:]


def _token_logprobs(vlm: VLM, hidden: Tensor, tokens: Tensor) -> Tensor:
    """(B, n, D) hidden states → (B, n) log-probability of each token, a few rows at a time: B·n·V may not fit."""
    rows = max(1, LOGITS_AT_ONCE // (len(hidden) * vlm.text_config.vocab_size))
    parts = []
    for start in range(0, len(tokens), rows):
        logits = vlm.model.lm_head(hidden[:, start : start + rows]).float()
        chosen = tokens[start : start + rows].expand(len(hidden), -1)[..., None]
        parts.append(torch.log_softmax(logits, -1).gather(-1, chosen)[..., 0])
    return torch.cat(parts, 1)


def _repeat(inputs: dict[str, Any], n: int) -> dict[str, Any]:
    """Inputs of one run, `n` times: rows for `n` masks."""
    repeated = {}
    for name, value in inputs.items():
        if name == "position_ids":  # (3, 1, S)
            repeated[name] = value.expand(-1, n, -1)
        elif name == "mm_encoder_outputs":
            repeated[name] = {kind: out.repeat(n) for kind, out in value.items()}
        else:
            repeated[name] = value.repeat(n, *[1] * (value.ndim - 1))
    return repeated


def _hide_pixels(
    vlm: VLM, prompt: Prompt, inputs: dict[str, Any], regions: Regions, masks: NDArray[np.bool_], ablation: Ablation
) -> dict[str, Any]:
    ablated = []  # for each image, its (B, H, W, 3) copies
    for image, labels in zip(prompt.canvas.images, prompt.canvas.crops(regions.labels), strict=True):
        hidden = masks[:, labels][..., None]  # (B, H, W, 1)
        ablated.append(np.where(hidden, fill(image, ablation), np.asarray(image)))
    batch = _repeat({k: v for k, v in inputs.items() if k != "pixel_values"}, len(masks))
    in_order = chain.from_iterable(zip(*ablated, strict=True))
    batch["pixel_values"] = vlm.pixel_values([Image.fromarray(pixels) for pixels in in_order])
    return batch


def _hide_tokens(
    vlm: VLM, prompt: Prompt, inputs: dict[str, Any], regions: Regions, masks: NDArray[np.bool_], ablation: Ablation
) -> dict[str, Any]:
    """Block all attention to the image tokens that lie mostly in a hidden region; positions stay as they are."""
    device = inputs["input_ids"].device
    hidden = masks @ token_weights(regions, prompt).T > 0.5  # (B, N)
    length = inputs["input_ids"].shape[1]
    blocked = torch.zeros(len(masks), length, dtype=torch.bool, device=device)
    blocked[:, prompt.image_tokens] = torch.from_numpy(hidden).to(device)
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=device)
    mask = (causal & ~blocked[:, None]) | itself  # (B, S, S); a token always sees itself
    batch = _repeat({k: v for k, v in inputs.items() if k != "attention_mask"}, len(masks))
    batch["attention_mask"] = mask[:, None]
    return batch


def random_masks(rng: np.random.Generator, n: int, k: int) -> NDArray[np.bool_]:
    """(n, k) Bernoulli(0.5) masks, as in AT2 and vSTREAM."""
    return rng.random((n, k)) < 0.5


def single_region_masks(k: int) -> NDArray[Any]:
    """(k, k): each region hidden by itself."""
    return np.eye(k, dtype=bool)
