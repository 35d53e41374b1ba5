"""Pure history: exact values, patches, order, replay. No I/O, no clock, no settings, no Django, no MongoEngine."""
