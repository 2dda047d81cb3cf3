"""How many examples a property gets that wants another number than the others."""

from hypothesis import settings

__all__ = ["examples"]

_MANY = 1000


def examples(usually: int) -> int:
    """Return `usually`; in the long profile as many as every property gets there."""
    reported = settings().max_examples
    return reported if reported >= _MANY else usually
