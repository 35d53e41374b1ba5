"""From a write to its stored version: in one transaction with it (`atomic`), or after it (`sync`)."""
