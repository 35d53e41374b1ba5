"""Calls of other packages on our history: a module for each, which code of theirs imports in its place."""
