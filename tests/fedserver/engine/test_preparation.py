from datetime import UTC, datetime, timedelta

import pytest

from fedcore.errors import FedError
from fedcore.record import Realm
from fedcore.tls import CERTIFICATE_LIFETIME
from fedserver.engine.preparation import verify_ready
from fedserver.engine.provision import SETTINGS_FILE, Wishes, provision
from fedserver.settings import ServerSettings

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path):
    wishes = Wishes(
        hosts=("localhost",),
        governance_url="https://governance.example",
        governance_key="1" * 64,
        governance_ca=None,
        realm=Realm.PRODUCTION,
        model_name="churn",
        ports={},
    )
    provision(tmp_path / "server", wishes, NOW)
    return ServerSettings.load(tmp_path / "server" / SETTINGS_FILE)


def refused(settings, now=NOW):
    with pytest.raises(FedError) as caught:
        verify_ready(settings, now)
    return caught.value.code


def test_a_server_is_ready_until_its_certificate_expires(settings):
    verify_ready(settings, NOW)
    verify_ready(settings, NOW + CERTIFICATE_LIFETIME)
    assert (
        refused(settings, NOW + CERTIFICATE_LIFETIME + timedelta(days=1)) == "certificate.expired"
    )
    assert refused(settings, NOW - timedelta(hours=1)) == "certificate.not_yet_valid"


@pytest.mark.parametrize("name", ["tls_key", "signing_key"])
def test_a_key_that_others_can_read_is_refused(settings, name):
    path = getattr(settings, name)
    path.chmod(0o644)
    assert refused(settings) == "key.permissions"
    path.chmod(0o600)
    verify_ready(settings, NOW)


def test_a_server_without_tls_is_refused(settings):
    for name in ("tls_certificate", "tls_key"):
        assert refused(settings.model_copy(update={name: None})) == "certificate.unreadable"


def test_a_missing_secret_is_made_and_an_open_one_refused(settings):
    secret = settings.work_dir / "control-secret"
    secret.unlink()
    verify_ready(settings, NOW)
    assert secret.exists()
    secret.chmod(0o604)
    assert refused(settings) == "key.permissions"


def test_a_work_directory_that_is_a_file_is_refused(settings, tmp_path):
    (tmp_path / "file").write_text("")
    assert refused(settings.model_copy(update={"work_dir": tmp_path / "file"})) == (
        "work_dir.unusable"
    )
