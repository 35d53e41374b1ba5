"""
`RecordChanges`: the latest who and when on the document itself, for classes with a history and without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from mongoengine import DateTimeField, DictField, Document, EmbeddedDocument

from django_mongo_history import runtime
from django_mongo_history.capture.stamping import Stamper, stamping, watching
from django_mongo_history.core.stamps import CHANGE_INFO, CHANGED
from django_mongo_history.documents.stamped import sent_key, set_quietly


class _ChangeInfoField(DictField):  # type: ignore[misc]
    """What the package itself has put there is not for the document's validation to refuse."""

    def validate(self, value: Any, clean: bool = True) -> None:  # noqa: FBT001, FBT002 - MongoEngine's signature
        pass


class RecordChanges:
    """
    A mixin, to stand before `Document`: `class Product(RecordChanges, Document)`.

    It adds `change_info`, a dict of what a version carries (`user` with `pk`, `label` and `model`; `remote_addr`,
    `reason`, `extra`; a key that is not known is missing), and `changed`, a moment in UTC to the millisecond. Every
    write through the class sets both: `save`, `insert`, updates of querysets, `modify`, `bulk_write`, reverts. They are
    untracked: no part of any version, and no change.

    Cost: two more fields in each write, no command more.
    Raises: TypeError where it stands behind `Document`, or in an embedded document.
    """

    _history_stamps: ClassVar[bool] = True
    if TYPE_CHECKING:
        _collection: ClassVar[Any]

    change_info = _ChangeInfoField(db_field=CHANGE_INFO)
    changed = DateTimeField(db_field=CHANGED)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if issubclass(cls, EmbeddedDocument):
            raise TypeError(f"{cls.__name__}: RecordChanges is for documents, not for embedded ones")
        lineage = cls.__mro__
        if issubclass(cls, Document) and lineage.index(Document) < lineage.index(RecordChanges):
            raise TypeError(f"{cls.__name__}: put RecordChanges before Document among its bases")

    @classmethod
    def _get_collection(cls) -> Any:
        inner = super()._get_collection()  # type: ignore[misc]
        stamped = stamping(inner, Stamper(cls, lambda: runtime.current().environment))
        if stamped is not inner and cls._collection is inner:
            cls._collection = stamped
        return stamped

    def save(self, *args: Any, **options: Any) -> Any:
        """As `Document.save`; the instance has both fields as they were stored."""
        with watching() as stamps:
            saved = super().save(*args, **options)  # type: ignore[misc]
        key = sent_key(self)
        own = [stamp for sent, stamp in stamps if sent == key]  # signal receivers may have written others
        if own:
            set_quietly(self, own[-1].fields, self._get_collection().codec_options)
        return saved
