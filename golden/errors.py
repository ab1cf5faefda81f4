"""The error that bad input raises."""

__all__ = ["SeedLMError"]


class SeedLMError(ValueError):
    """Bad input, told in one line: where it is, what it is, what was expected."""
