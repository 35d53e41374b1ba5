"""Whether a collection is there, and which one it is: the server gives each a UUID of its own."""

from __future__ import annotations

from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from bson.codec_options import CodecOptions
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure
from pymongo.read_preferences import ReadPreference

_PLAIN: Final[CodecOptions[dict[str, Any]]] = CodecOptions()


@dataclass(frozen=True, slots=True)
class Facts:
    """`holds_documents`: whether it is there, and no view. `uuid`: None where the server does not tell."""

    holds_documents: bool
    uuid: bytes | None = None


def look(collection: Any, session: Any = None) -> Facts:
    """What there is under this collection's name. Where the account may not ask, it is taken to be there."""
    database = collection.database
    if not isinstance(database, Database):
        return Facts(collection.name in database.list_collection_names())
    try:
        found = _listed(database, {"name": collection.name}, session)
    except OperationFailure:
        return Facts(holds_documents=True)
    return Facts(any(one.get("type") != "view" for one in found), next(iter(_uuids(found)), None))


def count(collection: Any) -> int | None:
    """About how many documents it holds, by the server's statistics; None where the account may not ask."""
    try:
        return int(collection.estimated_document_count())
    except OperationFailure:
        return None


def databases_with(client: Any, name: str) -> list[Any]:
    """The databases of a server that have a collection of this name; none where the account may not ask."""
    if not isinstance(client, MongoClient):
        return []
    try:
        databases = [client[found] for found in client.list_database_names()]
    except OperationFailure:
        return []
    return [one for one in databases if _has(one, name)]


def _has(database: Database[Any], name: str) -> bool:
    try:
        return bool(database.list_collection_names(filter={"name": name}))
    except OperationFailure:  # an account may list databases that it may not look into
        return False


def identities(database: Any) -> frozenset[bytes]:
    """The UUIDs of the collections that there are; none where the account may not ask, or the server does not tell."""
    if not isinstance(database, Database):
        return frozenset()
    try:
        # In an empty context: no transaction that the caller has bound to this one can list collections.
        return frozenset(_uuids(Context().run(_listed, database, {}, None)))
    except OperationFailure:
        return frozenset()


def _listed(database: Database[Any], wanted: dict[str, Any], session: Any) -> list[Any]:
    plain = database.with_options(codec_options=_PLAIN, read_preference=ReadPreference.PRIMARY)
    return list(plain.list_collections(session=session, filter=wanted))


def _uuids(found: list[Any]) -> list[bytes]:
    given = [one.get("info", {}).get("uuid") for one in found]
    return [one.bytes if isinstance(one, UUID) else bytes(one) for one in given if one is not None]
