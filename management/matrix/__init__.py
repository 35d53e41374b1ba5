"""What `python -m management matrix` runs: rows of versions and servers, each in an environment of its own."""
