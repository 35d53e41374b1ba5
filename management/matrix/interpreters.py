"""Which Python a row gets: this one, one on the PATH, or one that pyenv keeps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ASK = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"


def find_python(
    versions: Sequence[str], *, environ: Mapping[str, str] = os.environ, home: Path | None = None
) -> Path | None:
    """
    The first of these versions ("3.13") that runs here and can make environments, or None.

    Each candidate is asked and not just looked up: a name on the PATH may be a shim without a Python behind it.
    """
    home = home or Path.home()
    for version in versions:
        for candidate in _candidates(version, environ, home):
            if _version_of(candidate) == version:
                return candidate
    return None


def _candidates(version: str, environ: Mapping[str, str], home: Path) -> Iterator[Path]:
    yield Path(getattr(sys, "_base_executable", "") or sys.executable)  # not the environment's own
    if found := shutil.which(f"python{version}", path=environ.get("PATH")):
        yield Path(found)
    pyenv = Path(environ.get("PYENV_ROOT") or home / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True)


def _version_of(python: Path) -> str | None:
    try:
        asked = subprocess.run([str(python), "-c", ASK], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None
