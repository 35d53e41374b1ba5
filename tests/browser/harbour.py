"""What the browser tests look at: ferries and piers, and the addresses of all pages about them."""

from __future__ import annotations

import mongoengine
from mongoengine import fields

from django_mongo_history import history_of
from django_mongo_history.admin import history_url
from tests.admin_pages import page


class Pier(mongoengine.Document):
    """Something that ferries refer to."""

    name = fields.StringField(primary_key=True)
    depth = fields.FloatField()
    meta = {"collection": "piers"}


class Ferry(mongoengine.Document):
    """Has a text worth comparing, a tree, a reference, and something hidden."""

    number = fields.DynamicField(primary_key=True)
    name = fields.StringField()
    log = fields.StringField()
    secret = fields.StringField()
    route = fields.DictField()
    pier = fields.ReferenceField(Pier)
    meta = {"collection": "ferries"}


def every_page(key: object = 1, *, changeset: str, gone: object = 3) -> dict[str, str]:
    """The address of each page by its name, previews among them; of a ferry with three versions or more."""
    own = history_url(Ferry, key)
    selected = "&".join(f"key={history_url(Ferry, one).rstrip('/').rpartition('/')[2]}" for one in (key, 2))
    ids = [str(version.id) for version in history_of(Ferry, key)]
    return {
        "changes": page("changelist"),
        "changes, filtered to nothing": page("changelist") + "?reason=nothing-like-it",
        "changes, filtered wrongly": page("changelist") + "?changeset=xyz&since=2025-01-02&until=2025-01-01",
        "chart": page("chart"),
        "document": own,
        "document that is gone": history_url(Ferry, gone),
        "compare": f"{own}compare/?a={ids[0]}&b=now",
        "state": f"{own}state/?number=2",
        "version": f"{own}version/{ids[1]}/",
        "changeset": page("changeset", changeset),
        "deleted classes": page("deleted_classes"),
        "deleted": page("deleted", "Ferry"),
        "revert": f"{own}revert/?version={ids[0]}",
        "preview": f"{own}revert/?version={ids[0]}&preview=1",
        "preview of a changeset": page("take_back_changeset", changeset),
        "preview in conflict": page("take_back") + f"?version={ids[1]}",
        "documents to a moment": page("revert_documents", "Ferry") + f"?{selected}",
    }
