"""
Layouts of archives of whole states, as the tools that wrote them leave them. Facts only: names of fields, and what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

BEFORE: Final = "before"
AFTER: Final = "after"

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    # One row for each write that replaced or removed a state: the state that was there, when and by whom it was ended.
    "chrononaut": {
        "collection": "{collection}_history",
        "image": BEFORE,
        "key_field": "id",
        "version_field": "version",
        "time_field": "changed",
        "user_field": "change_info.user_id",
        "remote_addr_field": "change_info.remote_addr",
        "reason_field": "change_info.extra.rationale",
        "extra_fields": ("change_info.extra",),
        "hidden_fields": ("change_info.hidden_cols_changed", "change_info.extra.hidden_cols_changed"),
        "bookkeeping": ("version", "changed", "change_info"),
        "convert_texts": True,
    },
    "mongoose-history": {
        "collection": "{collection}_history",
        "image": AFTER,
        "key_field": "d._id",
        "state_field": "d",
        "time_field": "t",
        "operation_field": "o",
        "operations": {"i": "create", "u": "update", "r": "delete"},
    },
    # Both of its strategies: a list in one document for each, or rows of their own. Neither tells the time: ids do.
    "mongoose-version": {
        "collection": "versions",
        "image": AFTER,
        "key_field": "refId",
        "array_field": "versions",
        "bookkeeping": ("refId", "refVersion", "__v"),
    },
    "mongo-thingy": {
        "collection": "revision",
        "image": AFTER,
        "key_field": "document_id",
        "state_field": "document",
        "time_field": "creation_date",
        "user_field": "author",
        "operation_field": "operation",
        "operations": {"create": "create", "update": "update", "delete": "delete"},
        "type_field": "document_type",
    },
    # Its live documents carry number and date, too: they stay in the state where the class has such fields.
    "versioning-pattern": {
        "image": AFTER,
        "version_field": "revision",
        "time_field": "dateSet",
        "first_version": 1,
        "bookkeeping": ("revision", "dateSet"),
    },
}

OPERATIONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("create", "created", "insert", "inserted", "add", "added", "i", "c", "+"), "create"),
    **dict.fromkeys(("update", "updated", "change", "changed", "save", "replace", "u", "~"), "update"),
    **dict.fromkeys(("delete", "deleted", "remove", "removed", "destroy", "r", "d", "-"), "delete"),
}
"""What rows of no preset may call their operations, in small letters."""
