"""
Who and why: what a version written at this moment carries, as plain values in one context variable.

Knows no Django, no MongoEngine and no request object: whoever opens a changeset hands over plain values, and for the
user a function that is asked at each write and let go at the end.
"""

from django_mongo_history.context.blocks import (
    Captured,
    append_change_info,
    capture_context,
    consume_appended,
    current_changeset,
    extra_change_info,
    has_scope,
    is_suppressed,
    noted,
    open_changeset,
    open_scope,
    rationale,
    scope_of,
    scoped,
    suppress_history,
    tells_documents_apart,
)
from django_mongo_history.context.frames import Block, CarriedBlock
from django_mongo_history.context.header import HeaderError, decode_header, encode_header
from django_mongo_history.context.scopes import Scope
from django_mongo_history.context.storable import comparable_key, storable_key
from django_mongo_history.context.tasks import (
    Inherited,
    begin_task,
    begin_task_inside,
    end_task,
    inheritance,
    still_to_ask,
)
from django_mongo_history.context.users import UNSET, Unset, user_ref

__all__ = [
    "UNSET",
    "Block",
    "Captured",
    "CarriedBlock",
    "HeaderError",
    "Inherited",
    "Scope",
    "Unset",
    "append_change_info",
    "begin_task",
    "begin_task_inside",
    "capture_context",
    "comparable_key",
    "consume_appended",
    "current_changeset",
    "decode_header",
    "encode_header",
    "end_task",
    "extra_change_info",
    "has_scope",
    "inheritance",
    "is_suppressed",
    "noted",
    "open_changeset",
    "open_scope",
    "rationale",
    "scope_of",
    "scoped",
    "still_to_ask",
    "storable_key",
    "suppress_history",
    "tells_documents_apart",
    "user_ref",
]
