"""
MongoEngine's classes and documents, and the raw states behind them: the only toucher of MongoEngine's privates.

Knows no Django.
"""

from django_mongo_history.documents.classes import (
    Wrap,
    base_of_collection,
    class_count,
    class_name_of,
    collection_name_of,
    connection_aliases,
    find_class,
    find_label,
    is_stored_as,
    plain_collection,
    sharing,
    stored_names,
    unwrap_collection,
    uses_class_names,
    wrap_collection,
)
from django_mongo_history.documents.paths import (
    database_of,
    field_names,
    identity_paths,
    is_document_class,
    is_identity,
    is_time_series,
    translate_path,
)
from django_mongo_history.documents.states import (
    collection_of,
    exact_id,
    instance_of,
    load_problem,
    missing_files,
    parse_id,
    primary_key_of,
    reference_target,
    state_key,
    user_values,
)

__all__ = [
    "Wrap",
    "base_of_collection",
    "class_count",
    "class_name_of",
    "collection_name_of",
    "collection_of",
    "connection_aliases",
    "database_of",
    "exact_id",
    "field_names",
    "find_class",
    "find_label",
    "identity_paths",
    "instance_of",
    "is_document_class",
    "is_identity",
    "is_stored_as",
    "is_time_series",
    "load_problem",
    "missing_files",
    "parse_id",
    "plain_collection",
    "primary_key_of",
    "reference_target",
    "sharing",
    "state_key",
    "stored_names",
    "translate_path",
    "unwrap_collection",
    "user_values",
    "uses_class_names",
    "wrap_collection",
]
