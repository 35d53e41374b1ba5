"""Seeing every write of a tracked class, with the document on both sides of it, where MongoEngine makes it."""
