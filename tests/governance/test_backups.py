"""A backup is whole, of one moment and sealed; it is restored only if all of it verifies."""

import dataclasses
import stat
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import create_engine, text

from fedcore.errors import ConflictError, FedError, MismatchError, SignatureError
from fedcore.membership import Leave
from fedcore.record import Realm
from fedcore.signing import SigningKey
from fedcore.verify import verify_bundle
from governance.app import create_app
from governance.backups import back_up, restore
from registry import log
from registry.backups import dump
from registry.database import Database
from registry.soundness import verify_stored_log
from simulations.transport import AsgiTransport

pytestmark = pytest.mark.databases

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(params=KINDS)
def elsewhere(request, tmp_path):
    """The URL of an empty database of each kind."""
    if request.param == "postgresql":
        return request.getfixturevalue("new_url")()
    return f"sqlite:///{tmp_path / 'restored.db'}"


@pytest.fixture
def empty_url(tmp_path):
    return f"sqlite:///{tmp_path / 'restored.db'}"


def moved(world, url):
    return world.settings.model_copy(update={"database_url": url})


def rows_of(url):
    """All rows of all tables, in a form that both kinds share."""
    database = Database(url)
    with database.reading() as session:
        lines = list(dump(session))
    database.close()
    return lines


def test_what_is_restored_is_what_was_backed_up_on_either_database(
    world, elsewhere, tmp_path, model_bytes
):
    world.run()
    world.gateway("operator").register_model("run-1", "churn", model_bytes)
    world.cosign()
    file = tmp_path / "governance.backup"
    made = back_up(world.settings, file, world.clock.now)
    assert restore(moved(world, elsewhere), file) == made
    assert rows_of(elsewhere) == rows_of(world.settings.database_url)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_restored_service_goes_on(world, elsewhere, tmp_path, model_bytes):
    """Sequences count on, the log grows from where it stood, evidence verifies."""
    world.run()
    world.gateway("operator").register_model("run-1", "churn", model_bytes)
    file = tmp_path / "governance.backup"
    made = back_up(world.settings, file, world.clock.now)
    settings = moved(world, elsewhere)
    restore(settings, file)
    transport = AsgiTransport(create_app(settings, world.clock))
    with httpx.Client(transport=transport, base_url="http://governance") as client:
        again = dataclasses.replace(world, client=client, settings=settings)
        again.cosign()
        again.permit("run-2")
        assert again.bulletin("north").log.size == made.log.size + 1
        bundle = again.gateway("auditor").fetch_evidence("churn", 1)
    assert verify_bundle(bundle, world.governance_key, Realm.SIMULATION).ok


def test_a_backup_beside_writers_is_of_one_moment(world, tmp_path, empty_url):
    """Permits are given all the while; what was half done at that moment is not in it."""
    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(world.permit, f"run-{number}") for number in range(12)]
        file = tmp_path / "governance.backup"
        made = back_up(world.settings, file, world.clock.now)
        for future in writing:
            future.result()
    assert restore(moved(world, empty_url), file).log == made.log


def test_a_database_that_is_not_empty_is_left_alone(world, tmp_path, empty_url):
    file = tmp_path / "governance.backup"
    back_up(world.settings, file, world.clock.now)
    before = rows_of(world.settings.database_url)
    with pytest.raises(ConflictError, match=r"database\.not_empty"):
        restore(world.settings, file)
    assert rows_of(world.settings.database_url) == before
    restore(moved(world, empty_url), file)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"carla", b"karla", 1),
        lambda data: b"".join(line for line in data.splitlines(True) if b'["accounts"' not in line),
        lambda data: data[:-1200],
        lambda data: data + b"\n",
        lambda data: data.splitlines(True)[0] + data,
    ],
    ids=["changed", "rows left out", "broken off", "more at the end", "more at the start"],
)
def test_a_changed_backup_is_not_restored(world, tmp_path, empty_url, change):
    file = tmp_path / "governance.backup"
    back_up(world.settings, file, world.clock.now)
    honest = file.read_bytes()
    file.write_bytes(change(honest))
    with pytest.raises(FedError, match=r"backup\.|record\.|signature\."):
        restore(moved(world, empty_url), file)
    file.write_bytes(honest)
    restore(moved(world, empty_url), file)


def test_a_backup_of_another_service_is_not_restored(world, tmp_path, empty_url):
    file = tmp_path / "governance.backup"
    back_up(world.settings, file, world.clock.now)
    SigningKey.generate().save(tmp_path / "other.pem")
    other = moved(world, empty_url).model_copy(update={"signing_key": tmp_path / "other.pem"})
    with pytest.raises(SignatureError, match=r"signature\.wrong_key"):
        restore(other, file)
    restore(moved(world, empty_url), file)


CHANGES = {
    "entry": "UPDATE log_entries SET entry = '{}' WHERE position = 3",
    "leaf": "UPDATE log_entries SET leaf_hash = (SELECT leaf_hash FROM log_entries WHERE position "
    "= 4) WHERE position = 3",
    "subtree": "UPDATE log_nodes SET hash = (SELECT hash FROM log_nodes WHERE level = 2 AND place "
    "= 0) WHERE level = 1 AND place = 1",
    "subtree missing": "DELETE FROM log_nodes WHERE level = 1 AND place = 1",
    "subtree too many": "INSERT INTO log_nodes VALUES (9, 9, 'ab')",
    "document": "UPDATE documents SET envelope = (SELECT envelope FROM documents WHERE kind = "
    "'plan') WHERE kind = 'contract'",
    "document missing": "DELETE FROM documents WHERE kind = 'plan'",
    "entry missing": "DELETE FROM log_entries WHERE position = 3",
}


@pytest.mark.parametrize("statement", CHANGES.values(), ids=CHANGES)
def test_a_log_that_does_not_verify_is_backed_up_but_never_restored(
    world, tmp_path, empty_url, statement
):
    """The seal is honest about a database that somebody has changed by hand."""
    file = tmp_path / "governance.backup"
    back_up(world.settings, tmp_path / "before.backup", world.clock.now)
    engine = create_engine(world.settings.database_url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()
    back_up(world.settings, file, world.clock.now)
    with pytest.raises(MismatchError, match=r"log\.entry_changed"):
        restore(moved(world, empty_url), file)
    restore(moved(world, empty_url), tmp_path / "before.backup")


def test_an_erased_log_is_sound(world):
    statement = Leave(
        unit="north",
        ledger_sequence=0,
        ledger_hash="00" * 32,
        reason="sold",
        left_at=world.clock.now,
    )
    world.gateway().leave(world.sign(statement, "north"))
    headers = {"Authorization": f"Bearer {world.api_keys['dpo']}"}
    body = {"document": statement.digest, "reason": "case 3"}
    answer = world.client.post("/v1/log/erasures", json=body, headers=headers)
    assert answer.status_code == 201
    database = Database(world.settings.database_url)
    with database.reading() as session:
        assert verify_stored_log(session) == log.load_view(session).position()
    database.close()


def test_a_backup_never_replaces_a_file(make_world, tmp_path):
    world = make_world()
    file = tmp_path / "governance.backup"
    back_up(world.settings, file, world.clock.now)
    with pytest.raises(ConflictError, match=r"file\.exists"):
        back_up(world.settings, file, world.clock.now)
    assert not list(tmp_path.glob("*.part"))


def test_a_backup_brings_passwords_back_and_no_session(world, empty_url, tmp_path):
    """A session that was ended since must not come back with an older backup."""
    password = "four plain words in a row"
    world.gateway("dpo").set_password(password)
    tokens = world.gateway().sign_in("dora", "dpo", password)
    file = tmp_path / "governance.backup"
    back_up(world.settings, file, world.clock.now)
    settings = moved(world, empty_url)
    restore(settings, file)
    transport = AsgiTransport(create_app(settings, world.clock))
    headers = {"Authorization": f"Bearer {tokens.access_token}"}
    assert world.client.get("/v1/me", headers=headers).status_code == 200
    with httpx.Client(transport=transport, base_url="http://governance") as client:
        again = dataclasses.replace(world, client=client, settings=settings)
        assert client.get("/v1/me", headers=headers).json()["code"] == "session.ended"
        assert again.gateway().sign_in("dora", "dpo", password).name == "dora"
