#!/usr/bin/env python
"""Django's command line for the test project, from whatever directory it is called."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Put the checkout on the path, then do what the arguments say."""
    # In the place of this directory, where `import celery` would find the site's own module.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
