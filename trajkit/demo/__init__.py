"""The embedded demo world: scenes of handwritten digits, questions about them, and a checker of what is said.

Because every scene is known cell by cell, every sentence of a model's reasoning about it can be checked.
"""
