"""
The door: looks at the Python version before anything is imported that an old Python could not even parse.

So this file keeps to syntax that every Python 3 (and 2.7) reads; everything else is in `management.cli`.
"""

import sys

OLDEST_PYTHON = (3, 11)

if sys.version_info[:2] < OLDEST_PYTHON:
    sys.exit(
        "management: error: Python %d.%d or newer is needed, this is %d.%d (%s): call a newer one, for example `python3.11 -m management`"
        % (OLDEST_PYTHON + sys.version_info[:2] + (sys.executable,))
    )

from management.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
