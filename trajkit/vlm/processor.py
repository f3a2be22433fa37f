"""The processor of a checkpoint, with or without torchvision.

`AutoProcessor` builds a processor together with its video processor, which needs torchvision. trajkit takes images
only, so where torchvision is missing it builds the same processor from the parts that do not need it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from trajkit.vlm.adapter import Adapter


def load_processor(source: str, adapter: Adapter, revision: str | None = None) -> Any:
    """The processor of a folder or hub id: `AutoProcessor` where torchvision is installed, else its image-only form."""
    from transformers import AutoProcessor

    if find_spec("torchvision") is not None:
        return AutoProcessor.from_pretrained(source, revision=revision, trust_remote_code=False)
    return _image_only_processor(source, adapter, revision)


def _image_only_processor(source: str, adapter: Adapter, revision: str | None) -> Any:
    from transformers import AutoTokenizer, ProcessorMixin

    parts = adapter.processor
    full = transformers_class(parts.module, parts.processor)

    class WithoutVideo(ProcessorMixin):
        """Stands behind the full processor in the order of inheritance, and drops the video processor it passes on."""

        def __init__(self, image_processor: Any, tokenizer: Any, video_processor: None, chat_template: Any) -> None:
            super().__init__(image_processor, tokenizer, chat_template=chat_template)

    class ImageOnlyProcessor(full, WithoutVideo):  # type: ignore[misc, valid-type]
        """Processor for text and images. transformers reads its parts off this signature, so it names just two."""

        def __init__(self, image_processor: Any, tokenizer: Any, chat_template: Any = None) -> None:
            super().__init__(image_processor, tokenizer, None, chat_template=chat_template)

    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    images = transformers_class(parts.image_module, parts.image_processor).from_pretrained(source, revision=revision)
    return ImageOnlyProcessor(images, tokenizer, chat_template=tokenizer.chat_template)


def transformers_class(module: str, name: str) -> Any:
    """A class of `transformers.models.<module>`."""
    return getattr(import_module(f"transformers.models.{module}"), name)
