"""`/readyz` says no for each thing that is amiss, and yes when it is mended."""

from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text

from fedcore.signing import SigningKey
from registry.database import Database

pytestmark = pytest.mark.databases


def codes(world):
    response = world.client.get("/readyz")
    if response.status_code == 200:
        assert response.json() == {"status": "ready"}
        return []
    assert response.status_code == 503
    return response.json()["codes"]


def execute(world, statement, **values):
    engine = create_engine(world.settings.database_url)
    with engine.begin() as connection:
        connection.execute(text(statement), values)
    engine.dispose()


def test_a_service_that_is_well_is_ready(make_world):
    assert codes(make_world()) == []


def test_a_schema_of_before_is_not_ready_and_is_when_it_was_brought_up(make_world):
    world = make_world()
    engine = create_engine(world.settings.database_url)
    with engine.connect() as connection:
        head = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    engine.dispose()
    stamp = "UPDATE alembic_version SET version_num = :revision"
    execute(world, stamp, revision="0002")
    assert codes(world) == ["database.schema_differs"]
    execute(world, stamp, revision=head)
    assert codes(world) == []


def test_a_key_that_is_gone_readable_by_others_or_replaced_is_not_ready(make_world):
    world = make_world()
    path = world.settings.signing_key
    kept = path.read_bytes()
    path.chmod(0o644)
    assert codes(world) == ["key.permissions"]
    path.unlink()
    assert codes(world) == ["key.unreadable"]
    SigningKey.generate().save(path)
    assert codes(world) == ["key.replaced"]
    path.write_bytes(kept)
    assert codes(world) == []


def test_a_full_disk_is_not_ready(make_world):
    assert codes(make_world(min_free_bytes=2**62)) == ["disk.full"]


@pytest.fixture
def take_away(request, backend):
    """Takes a world's database away."""

    def take(world):
        url = make_url(world.settings.database_url)
        if backend == "postgresql":
            server = request.getfixturevalue("server")
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {url.database} WITH (FORCE)")
            return
        path = Path(str(url.database))
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        path.mkdir()

    return take


def test_a_database_that_does_not_answer_is_not_ready_beside_what_else_is_amiss(
    make_world, take_away
):
    world = make_world()
    take_away(world)
    world.settings.signing_key.unlink()
    assert codes(world) == ["database.unreachable", "key.unreadable"]


@pytest.mark.parametrize("url", ["postgresql+psycopg://127.0.0.1:1/nothing"])
def test_a_server_that_is_not_there_is_not_ready(url):
    database = Database(url)
    with pytest.raises(Exception, match=r"database\.unreachable"):
        database.verify_schema()
    database.close()
