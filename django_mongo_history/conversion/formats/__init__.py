"""The source formats that the package brings, and how others are found: by an entry point or by a dotted path."""

from django_mongo_history.conversion.formats.known import GROUP, find_format, known_formats

__all__ = ["GROUP", "find_format", "known_formats"]
