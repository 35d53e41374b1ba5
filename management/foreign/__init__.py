"""A foreign judge: MongoEngine's own tests, run with every document class tracked."""
