"""
What the collections hold, byte for byte, read past everything that the demo is about.

PyMongo's raw documents are the bytes that the server sent: types and key order included.
"""

from dataclasses import dataclass
from typing import Any

import mongoengine
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

COLLECTIONS = ("airports", "countries")


@dataclass(frozen=True, slots=True)
class Picture:
    """All documents as bytes, by (collection, id)."""

    documents: dict[tuple[str, Any], bytes]

    @property
    def size(self) -> int:
        """How many bytes that is."""
        return sum(map(len, self.documents.values()))

    def ids(self, collection: str) -> set[Any]:
        """The ids of one collection's documents."""
        return {key for name, key in self.documents if name == collection}

    def differences(self, other: "Picture") -> list[str]:
        """What is not the same here and there, as `airports EDDB`."""
        keys = self.documents.keys() | other.documents.keys()
        return sorted(
            f"{name} {key}"
            for name, key in keys
            if self.documents.get((name, key)) != other.documents.get((name, key))
        )


def take_picture() -> Picture:
    """The collections as they are now."""
    options = CodecOptions(document_class=RawBSONDocument)
    database = mongoengine.get_db()
    return Picture(
        {
            (name, found["_id"]): found.raw
            for name in COLLECTIONS
            for found in database[name].with_options(codec_options=options).find()
        }
    )
