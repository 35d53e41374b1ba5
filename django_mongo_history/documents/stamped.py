"""Instances that learn what a write has put on their document besides what they sent."""

# ruff: noqa: SLF001 - this package is where it is done, so that no other has to

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bson
from bson.codec_options import DEFAULT_CODEC_OPTIONS, CodecOptions


def set_quietly(document: Any, fields: Mapping[str, Any], codec_options: Any) -> None:
    """
    Give an instance values by attribute name, as a reload would (naive or aware moments, for one), and without its next
    save taking them for changes.
    """
    # mongomock has codec options of its own kind.
    known = codec_options if isinstance(codec_options, CodecOptions) else DEFAULT_CODEC_OPTIONS
    written = bson.encode(fields, codec_options=known)
    read = bson.decode(written, known.with_options(document_class=dict))
    for name, value in read.items():
        document._data[name] = document._fields[name].to_python(value)


def sent_key(document: Any) -> Any:
    """The primary key as MongoEngine puts it into filters and documents; None where there is none."""
    name = document._meta.get("id_field")
    return None if name is None or document.pk is None else document._fields[name].to_mongo(document.pk)
