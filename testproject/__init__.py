"""A small Django site whose airports live in MongoDB and keep their history."""
