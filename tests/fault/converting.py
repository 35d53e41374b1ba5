"""A process that converts until all is done, in small portions: to be killed. Arguments: URI, database."""

from __future__ import annotations

import sys

import django
import mongoengine
from django.conf import settings
from mongoengine import fields


class KilledPlate(mongoengine.Document):
    """What has an old history."""

    name = fields.StringField()
    meta = {"collection": "killed_plates"}


def main() -> None:
    settings.configure(INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"], USE_TZ=True)
    django.setup()
    mongoengine.connect(sys.argv[2], host=sys.argv[1], uuidRepresentation="standard", tz_aware=True)
    from django_mongo_history import HistoryConverter, converter, track

    converter.PORTION = 4
    track(KilledPlate)
    print("begun", flush=True)
    report = HistoryConverter(KilledPlate, "mongoengine-history", source_timezone="UTC").convert_all()
    print(f"done {report.counts.documents}", flush=True)


if __name__ == "__main__":
    main()
