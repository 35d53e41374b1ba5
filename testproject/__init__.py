"""A small Django site whose airports live in MongoDB and keep their history."""

from importlib.util import find_spec

if find_spec("celery"):  # the site runs without it, too
    from testproject.celery import app as celery_app

    __all__ = ("celery_app",)
