"""Whether a loaded checkpoint can be used at all: its generation settings are numbers, and it sees a picture."""

from __future__ import annotations

from PIL import Image

from trajkit.errors import InputError
from trajkit.vlm.model import VLM
from trajkit.vlm.settings import check_values


def check_usable(vlm: VLM) -> None:
    """Raise InputError where a setting makes no sense, or a small picture and a question do not come through.

    What else is raised comes from files of the checkpoint that do not fit each other.
    """
    rows = vlm.model.get_input_embeddings().num_embeddings
    check_values(vlm.model.generation_config, rows)
    prompt = vlm.prepare(Image.new("RGB", (64, 64), "white"), "?")
    vlm.encode_images(prompt)
    last = int(prompt.inputs["input_ids"].max())
    if last >= rows:
        raise InputError(
            f"the tokenizer of {vlm.name} gives token {last}, and its model knows {rows} tokens. Compare its files "
            "with those of the model that it was made from."
        )
