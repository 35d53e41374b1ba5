"""Complete, exact history of MongoEngine documents in Django projects."""
