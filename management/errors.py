"""The one kind of failure that a user of `python -m management` is told in a single line, without a traceback."""


class ManagementError(Exception):
    """What went wrong and what to do about it, in one line."""
