"""Runs this repository: `python -m management demo | test | lint | serve`. Standard library only until `.venv` is there."""
