"""The bootstrap's decisions, on directories that only look like a checkout; `integration/test_management.py` runs it for real."""

import importlib.util
from pathlib import Path

import pytest

from management.environment import Environment, explain_pip_failure
from management.errors import ManagementError

PYPROJECT = '[project]\nname = "x"\nversion = "1"\n[tool.ruff]\nline-length = 110\n'


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment that looks as after an install of the extra `test`."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    made = Environment(tmp_path)
    made.python.parent.mkdir(parents=True)
    made.python.touch()
    (made.path / ".installed-test").write_text(made.fingerprint("test"))
    return made


def test_an_installed_extra_is_ready(environment: Environment) -> None:
    """A stamp that fits means that nothing is to be done."""
    assert environment.is_ready("test")


def test_another_extra_is_not_ready(environment: Environment) -> None:
    """Each extra has a stamp of its own."""
    assert not environment.is_ready("demo")


def test_changed_metadata_are_installed_again(environment: Environment) -> None:
    """A stamp is void once the project's metadata differ."""
    (environment.root / "pyproject.toml").write_text(PYPROJECT.replace('"1"', '"2"'))
    assert not environment.is_ready("test")


def test_a_linter_setting_installs_nothing(environment: Environment) -> None:
    """Only what an install depends on counts."""
    (environment.root / "pyproject.toml").write_text(PYPROJECT.replace("110", "100"))
    assert environment.is_ready("test")


def test_a_moved_checkout_is_installed_again(environment: Environment, tmp_path: Path) -> None:
    """An editable install points at a path, so a copy elsewhere is not ready."""
    moved = tmp_path / "moved"
    environment.path.rename(tmp_path / ".venv-aside")
    moved.mkdir()
    (tmp_path / ".venv-aside").rename(moved / ".venv")
    (moved / "pyproject.toml").write_text(PYPROJECT)
    assert not Environment(moved).is_ready("test")


def test_an_interrupted_install_is_not_trusted(environment: Environment) -> None:
    """The mark of an unfinished install outweighs every stamp."""
    (environment.path / ".unfinished").touch()
    assert not environment.is_ready("test")


def test_a_python_that_was_removed_is_noticed(environment: Environment) -> None:
    """Without its Python an environment is not ready, whatever its stamps say."""
    environment.python.unlink()
    assert not environment.is_ready("test")


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_without_venv_is_told_in_one_line(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's Python comes without them: the error says what to install."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(ManagementError, match=f"has no {missing} module.*python3-venv") as caught:
        Environment(tmp_path).prepare("test")
    assert "\n" not in str(caught.value)


def test_a_file_in_the_way_is_told_in_one_line(tmp_path: Path) -> None:
    """A `.venv` that is no directory is the user's, and not ours to remove."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / ".venv").write_text("mine")
    with pytest.raises(ManagementError, match="in the way"):
        Environment(tmp_path).prepare("test")
    assert (tmp_path / ".venv").read_text() == "mine"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...)'\nERROR: No matching distribution",
            "no network: pip cannot reach the package index (all it said: LOG)",
        ),
        (
            "Collecting x\nERROR: No matching distribution found for x>=9\n[notice] a new pip\n",
            "pip failed: ERROR: No matching distribution found for x>=9 (all it said: LOG)",
        ),
        ("", "pip failed: no reason given (all it said: LOG)"),
    ],
)
def test_a_failure_of_pip_is_one_line(output: str, expected: str) -> None:
    """What pip says at length becomes the one line that matters."""
    assert explain_pip_failure(output, log="LOG") == expected
