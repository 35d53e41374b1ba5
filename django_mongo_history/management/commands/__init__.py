"""The management commands, found by Django through their modules' names."""
