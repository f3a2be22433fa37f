"""The embedded demo world: scenes of handwritten digits, questions about them, written-out reasoning and its labels.

Because every scene is known cell by cell, every sentence of a model's reasoning about it can be checked.
"""
