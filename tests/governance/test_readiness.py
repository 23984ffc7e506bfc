"""`/readyz` says no for each thing that is amiss, and yes when it is mended."""

import pytest
from sqlalchemy import create_engine, text

from fedcore.signing import SigningKey
from registry.database import Database


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
    with create_engine(world.settings.database_url).connect() as connection:
        head = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
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


def test_a_database_that_does_not_answer_is_not_ready_beside_what_else_is_amiss(make_world):
    world = make_world()
    database = world.settings.signing_key.parent / "governance.db"
    for file in database.parent.glob("governance.db*"):
        file.unlink()
    database.mkdir()
    world.settings.signing_key.unlink()
    assert codes(world) == ["database.unreachable", "key.unreadable"]


@pytest.mark.parametrize("url", ["postgresql+psycopg://127.0.0.1:1/nothing"])
def test_a_server_that_is_not_there_is_not_ready(make_world, url):
    database = Database(url)
    with pytest.raises(Exception, match=r"database\.unreachable"):
        database.verify_schema()
    database.close()
