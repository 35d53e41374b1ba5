"""
`manage.py history_convert` in a process of its own, in small portions: to be killed. Arguments: URI, database, then those of
the command.
"""

from __future__ import annotations

import sys

import django
import mongoengine
from django.conf import settings
from mongoengine import fields


class KilledCup(mongoengine.Document):
    """What has an old history, of any format."""

    name = fields.StringField()
    pin = fields.StringField()
    log = fields.ListField(fields.DictField())
    meta = {"collection": "killed_cups"}


RULES = {"untracked": ["log"], "hidden": ["pin"]}


def main() -> None:
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_mongo_history"],
        USE_TZ=True,
    )
    mongoengine.connect(sys.argv[2], host=sys.argv[1], uuidRepresentation="standard", tz_aware=True)
    django.setup()
    from django.core.management import execute_from_command_line

    from django_mongo_history import converter, track

    converter.PORTION = 3
    track(KilledCup, **RULES)
    execute_from_command_line(["manage.py", "history_convert", *sys.argv[3:]])


if __name__ == "__main__":
    main()
