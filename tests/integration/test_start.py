"""What a project finds right after `django.setup()`, in a process of its own."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys, types
import mongoengine
from django.conf import settings

shop = types.ModuleType("shop")
class Order(mongoengine.Document):
    meta = {"allow_inheritance": True}
class Gift(Order):
    pass
Order.__module__ = Gift.__module__ = "shop"
shop.Order = Order
sys.modules["shop"] = shop
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_mongo_history"],
    TRACKED_DOCUMENTS=["shop.Order"],
)
import django
django.setup()
import inspect
print(type(inspect.getattr_static(Gift, "history")).__name__)
import django_mongo_history
print(type(inspect.getattr_static(Order, "history")).__name__)
"""


def test_classes_named_in_the_settings_have_their_attribute_at_once() -> None:
    """`.history` is there whether or not anybody has imported the public names, and no server is asked for it."""
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert found.stdout.split() == ["HistoryAttribute", "HistoryAttribute"], found.stderr
