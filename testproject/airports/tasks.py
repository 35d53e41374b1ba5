"""
Work that the site leaves to a worker. Ordinary Celery tasks on ordinary documents: nothing here knows of history.
"""

from dataclasses import asdict
from pathlib import Path

from celery import shared_task

from testproject.airports.documents import Airport, Country
from testproject.airports.loader import load, release_of


@shared_task
def rename_airport(icao: str, name: str) -> str:
    """Give an airport another name; its code, so that the next task of a chain goes on with it."""
    airport = Airport.objects.get(pk=icao)
    airport.name = name
    airport.save()
    return icao


@shared_task
def move_airport(icao: str, city: str) -> str:
    """Say that an airport belongs to another city; its code."""
    Airport.objects(pk=icao).update(set__city=city)
    return icao


@shared_task
def rename_country(code: str, name: str) -> str:
    """Give a country another name, or make it with this one; its code."""
    Country(code=code, name=name).save()
    return code


@shared_task(bind=True, default_retry_delay=0)
def rename_when_there(self, icao: str, name: str) -> str:
    """As `rename_airport`, but an airport that is not there yet is waited for: one try a second, three in all."""
    try:
        return rename_airport(icao, name)
    except Airport.DoesNotExist as error:
        raise self.retry(exc=error, countdown=1, max_retries=2) from error


@shared_task
def rename_all(names: dict[str, str]) -> int:
    """Leave each of these airports, by code, to a task of its own; how many there are."""
    for icao, name in names.items():
        rename_airport.delay(icao, name)
    return len(names)


@shared_task
def load_release(path: str) -> dict[str, int]:
    """Bring the database to the release in this file; what that did, by the names of `Counts`."""
    return asdict(load(release_of(Path(path))))
