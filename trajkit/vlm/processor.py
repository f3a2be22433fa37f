"""The processor of a checkpoint, with or without torchvision.

`AutoProcessor` builds Qwen's processor together with a video processor, which needs torchvision. trajkit takes images
only, so where torchvision is missing it builds the same processor from the parts that do not need it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any


def load_processor(source: str, revision: str | None = None) -> Any:
    """The processor of a folder or hub id: `AutoProcessor` where torchvision is installed, else its image-only form."""
    from transformers import AutoProcessor

    if find_spec("torchvision") is not None:
        return AutoProcessor.from_pretrained(source, revision=revision)
    return _image_only_processor(source, revision)


def _image_only_processor(source: str, revision: str | None) -> Any:
    from transformers import AutoTokenizer, ProcessorMixin
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

    class ImageOnlyProcessor(Qwen3VLProcessor):
        """Qwen's processor for text and images. Attributes are read off the signature, so it names just two."""

        def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None) -> None:
            for name, text in (("image", "<|image_pad|>"), ("video", "<|video_pad|>")):
                setattr(self, f"{name}_token", text)
                setattr(self, f"{name}_token_id", tokenizer.convert_tokens_to_ids(text))
            for name in ("start", "end"):
                text = f"<|vision_{name}|>"
                setattr(self, f"vision_{name}_token", text)
                setattr(self, f"vision_{name}_token_id", tokenizer.convert_tokens_to_ids(text))
            ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    image_processor = Qwen2VLImageProcessorPil.from_pretrained(source, revision=revision)
    return ImageOnlyProcessor(image_processor, tokenizer, chat_template=tokenizer.chat_template)
