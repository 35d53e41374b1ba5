"""Storing versions while the next ones are being made."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from django_mongo_history.core.model import VersionRecord
from django_mongo_history.storage.base import Store


class Storing:
    """Stores portions one behind the other in a thread of its own: one at a time, while the next one is being made."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: Future[None] | None = None

    def __enter__(self) -> Storing:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="history-convert")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            assert self._pool is not None
            self._pool.shutdown()

    def store(self, records: Sequence[VersionRecord]) -> None:
        """Raises: what storing the portion before raised."""
        self.wait()
        if records and self._store is not None and self._pool is not None:
            self._waiting = self._pool.submit(self._store.append, records)

    def wait(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.result()
