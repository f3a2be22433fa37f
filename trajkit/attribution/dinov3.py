"""Patch features of DINOv3 (arXiv 2508.10104): what vSTREAM (arXiv 2604.16587) clusters into regions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from trajkit.errors import InputError
from trajkit.vlm.load import check_source, checkpoint, no_loading_bar

DEFAULT = "facebook/dinov3-vits16-pretrain-lvd1689m"
LICENCE = (
    "The hub gives the weights of DINOv3 to those who accept their licence there and log in (hf auth login); or pass "
    "dinov3:FOLDER."
)
LONG_SIDE = 512
"""Pixels of the longer side that the model sees: 32 patches of 16."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of pixels where the checkpoint does not say."""


class DinoV3:
    """A DINOv3 vision transformer, in evaluation mode."""

    def __init__(self, source: str, device: str = "cpu") -> None:
        """source: a checkpoint folder or a hub id. Raises InputError when it holds no such model."""
        from transformers import AutoConfig, AutoModel

        check_source(source, DEFAULT)
        with checkpoint(source, LICENCE), no_loading_bar():
            config = AutoConfig.from_pretrained(source, trust_remote_code=False)
            config._attn_implementation = "sdpa"  # or one that the checkpoint names would be fetched and run
            self._model = AutoModel.from_pretrained(
                source, config=config, attn_implementation="sdpa", trust_remote_code=False, use_safetensors=True
            )
        if self._model.config.model_type != "dinov3_vit":
            raise InputError(
                f"{source!r} is a {self._model.config.model_type!r} and no DINOv3 vision transformer; expected a "
                f"checkpoint such as {DEFAULT}."
            )
        self._model.eval().requires_grad_(False).to(device)
        mean, std = _normalisation(source)
        self._mean, self._std = (torch.tensor(v, device=device)[:, None, None] for v in (mean, std))

    @torch.no_grad()
    def features(self, image: Image.Image) -> tuple[NDArray[np.float32], tuple[int, int]]:
        """(rows·cols, D) features of the patches of an RGB image, and (rows, cols).

        The image is resized, keeping its shape to the nearest patch, so that its longer side is LONG_SIDE pixels.
        """
        size = self._model.config.patch_size
        scale = LONG_SIDE / max(image.size)
        cols, rows = (max(1, round(side * scale / size)) for side in image.size)
        resized = np.asarray(image.resize((cols * size, rows * size), Image.Resampling.BICUBIC))
        pixels = torch.from_numpy(resized.copy()).to(self._mean.device).permute(2, 0, 1) / 255
        tokens = self._model(((pixels - self._mean) / self._std)[None]).last_hidden_state[0]
        return tokens[-rows * cols :].float().cpu().numpy(), (rows, cols)  # class and register tokens stand before


@lru_cache(maxsize=2)
def load_dinov3(source: str, device: str) -> DinoV3:
    """As `DinoV3`, loaded once."""
    return DinoV3(source, device)


def _normalisation(source: str) -> tuple[Sequence[float], Sequence[float]]:
    from transformers import ImageProcessingMixin

    try:
        said: dict[str, Any] = ImageProcessingMixin.get_image_processor_dict(source)[0]
    except OSError:
        return IMAGENET
    return said.get("image_mean", IMAGENET[0]), said.get("image_std", IMAGENET[1])
