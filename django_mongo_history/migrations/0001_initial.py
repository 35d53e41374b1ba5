"""The model without a table that carries the permissions."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="History",
            fields=[
                ("id", models.CharField(editable=False, max_length=24, primary_key=True, serialize=False)),
            ],
            options={
                "verbose_name": "change",
                "verbose_name_plural": "history",
                "permissions": (
                    ("view_history", "Can view the history of documents"),
                    ("revert_history", "Can revert documents and take changes back"),
                    ("export_history", "Can export the history of documents"),
                ),
                "default_permissions": (),
                "managed": False,
            },
        ),
    ]
