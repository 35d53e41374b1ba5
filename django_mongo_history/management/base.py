"""What every command does alike: errors in one line, progress on a terminal."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from mongoengine.connection import ConnectionFailure
from pymongo.errors import PyMongoError
from tqdm import tqdm

from django_mongo_history.errors import HistoryError


class HistoryCommand(BaseCommand):
    """`work` does it; errors of the database and of the history end the command with one line."""

    def handle(self, *args: Any, **options: Any) -> None:
        with plain_errors():
            self.work(options)

    @abstractmethod
    def work(self, options: dict[str, Any]) -> None:
        """Parse, call, print."""

    def remark(self, text: str) -> None:
        """Say something beside the output: on stderr, and no error."""
        self.stderr.write(text, style_func=str)


@contextmanager
def plain_errors() -> Iterator[None]:
    """The database's and the history's errors as CommandErrors."""
    try:
        yield
    except (PyMongoError, ConnectionFailure) as error:
        raise CommandError(f"MongoDB: {one_line(error)}") from error
    except HistoryError as error:
        raise CommandError(one_line(error)) from error


def one_line(error: Exception) -> str:
    """An error's message without what the driver hangs on for programmers."""
    text = str(error).partition(", Timeout: ")[0].partition(", full error: ")[0]
    return " ".join(text.split())


@contextmanager
def progress_bar(label: str, *, total: int | None = None) -> Iterator[Any]:
    """A bar on stderr where that is a terminal, nothing elsewhere; gives the function that counts on."""
    with tqdm(desc=label, total=total, unit="", disable=None, leave=False) as bar:
        yield bar.update
