"""Django's entry to the app: says where MongoDB is, but does not call it."""

from django.apps import AppConfig
from django.conf import settings

from testproject.airports.connection import register_default


class AirportsConfig(AppConfig):
    """The airports app."""

    name = "testproject.airports"
    label = "airports"
    verbose_name = "Airports"

    def ready(self) -> None:
        """Register the default MongoEngine connection, unless someone did already."""
        register_default(settings.MONGODB_URI, database=settings.MONGODB_DATABASE)
