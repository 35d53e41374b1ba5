"""What some of the versions that are supported cannot do, each with the version that brought it."""

from __future__ import annotations

import inspect

import pytest
from pymongo import UpdateOne
from pymongo.client_session import ClientSession

HAS_BIND = hasattr(ClientSession, "bind")

NEEDS_BIND = pytest.mark.skipif(
    not HAS_BIND,
    reason="PyMongo 4.17 brought ClientSession.bind(): before it MongoEngine's calls cannot join a transaction",
)
NEEDS_SORTED_UPDATES = pytest.mark.skipif(
    "sort" not in inspect.signature(UpdateOne).parameters,
    reason="PyMongo 4.11 brought `sort` of updates and replacements",
)
