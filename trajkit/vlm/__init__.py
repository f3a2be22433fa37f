"""Vision-language thinking models from Hugging Face: load, prepare a prompt, find image tokens and thinking span."""
