"""Evalscripts: the small part of JavaScript that indices are written in, run on whole arrays at once.

`tokens` → `syntax` (a tree) → `evaluation` (values are numbers or arrays) → `script` (what an evalscript has
to have: `setup`, `evaluatePixel`, outputs, a data mask). What is not understood is refused, never guessed.
"""

from stacpull_replicas.sentinelhub.evalscript.script import Evalscript, Output

__all__ = ["Evalscript", "Output"]
