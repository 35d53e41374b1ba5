"""
Old histories into ours: a format reads the rows of one document as steps, the engine makes versions of them.

Runs are in chunks of documents, with a record of their own of how far they are; what was made is checked by reading it back.
A format of one's own is made of the names below.
"""

from django_mongo_history.conversion.base import UNKNOWN, BadRow, Edit, Format, Step, Target, image
from django_mongo_history.conversion.options import COLLECTION, Option
from django_mongo_history.conversion.rows import CollectionReader, Reader, Row, Rows, Size
from django_mongo_history.core.model import Context, UserRef

__all__ = [
    "COLLECTION",
    "UNKNOWN",
    "BadRow",
    "CollectionReader",
    "Context",
    "Edit",
    "Format",
    "Option",
    "Reader",
    "Row",
    "Rows",
    "Size",
    "Step",
    "Target",
    "UserRef",
    "image",
]
