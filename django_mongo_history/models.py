"""
The model by which Django's admin and its permissions know of the history. It has no table, and nothing queries it.

Versions lie in MongoDB. An unmanaged model gives the admin its menu entry and projects the permissions to hand out.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import pgettext_lazy


class History(models.Model):
    """Stands for the histories of all tracked documents. `python manage.py migrate` makes its permissions, no table."""

    # A key of its own: Django's default one would follow DEFAULT_AUTO_FIELD, and ask each project for a migration.
    id = models.CharField(primary_key=True, max_length=24, editable=False)

    class Meta:
        managed = False
        default_permissions = ()
        permissions = (
            ("view_history", "Can view the history of documents"),
            ("revert_history", "Can revert documents and take changes back"),
            ("export_history", "Can export the history of documents"),
        )
        verbose_name = pgettext_lazy("history", "change")
        verbose_name_plural = pgettext_lazy("history", "history")

    def __str__(self) -> str:
        return str(self.id)
