"""
Where the documents lie, told to MongoEngine once.

Only registered, not connected: the client is made at the first query. So a test, or a process that forks first, may
still call `mongoengine.connect` for the same alias and get its own.
"""

import mongoengine
from mongoengine.connection import DEFAULT_CONNECTION_NAME
from pymongo.uri_parser import parse_uri


def register_default(uri: str, *, database: str) -> None:
    """Register `uri` as the default alias; `database` is used where the URI names none. A second call does nothing."""
    if DEFAULT_CONNECTION_NAME in mongoengine.connection._connection_settings:
        return
    mongoengine.register_connection(
        DEFAULT_CONNECTION_NAME,
        db=parse_uri(uri, validate=True)["database"] or database,
        host=uri,
        uuidRepresentation="standard",
    )
