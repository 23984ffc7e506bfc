import json
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fedcore import cli
from fedcore.bundle import LogExport, write_bundle
from fedcore.errors import InvalidRecordError
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.record import Realm
from fedcore.rounds import Receipt
from fedcore.verify_cli import load_public_key

COMMANDS = {"verify": "fedcore.verify_cli:verify", "log": "fedcore.verify_cli:log"}


def run(*arguments):
    root = cli.RootCommand(
        {
            name: EntryPoint(name=name, value=target, group=cli.COMMANDS_GROUP)
            for name, target in COMMANDS.items()
        }
    )
    result = CliRunner().invoke(root, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.fixture
def key(tmp_path, world):
    path = tmp_path / "governance.pub"
    path.write_text(world.governance.public + "\n")
    return path


@pytest.fixture
def bundle(tmp_path, evidence):
    path = tmp_path / "evidence.zip"
    path.write_bytes(write_bundle(evidence))
    return path


def test_honest_evidence_exits_0_with_a_line_for_each_check(bundle, key):
    code, output = run("verify", bundle, "--key", key)
    assert code == 0
    assert "ok      receipts.complete: every answer has its receipt" in output
    assert "FAILED" not in output
    assert output.rstrip().endswith("VERIFIED")
    assert "This cannot show:" in output
    assert "SIMULATION" not in output
    assert "north: 1.4" in output


def test_a_model_with_evaluations_has_its_epsilon_and_what_all_of_it_charged(
    tmp_path, world, promoted, key
):
    path, result = tmp_path / "champion.zip", tmp_path / "result.json"
    path.write_bytes(write_bundle(promoted))
    code, output = run("verify", path, "--key", key, "--json", result)
    assert code == 0
    assert "with the model's evaluations, at least:" in output
    found = json.loads(result.read_text())
    own, total = found["epsilon"]["north"], found["epsilon_with_evaluations"]["north"]
    events = [
        Receipt.from_bytes(envelope.payload_bytes)
        for envelope in (*promoted.receipts, *promoted.evaluations[0].receipts)
    ]
    whole = renyi_epsilon([item.event for item in events if item.unit == "north"], found["delta"])
    assert own["claim"] < total["claim"] == pytest.approx(whole)


def test_a_failed_check_exits_1_and_says_which(tmp_path, world, evidence, key):
    path = tmp_path / "lie.zip"
    path.write_bytes(write_bundle(world.reseal(evidence, receipts=evidence.receipts[1:])))
    code, output = run("verify", path, "--key", key)
    assert code == 1
    assert "FAILED  receipts.complete: " in output
    assert "NOT VERIFIED: " in output


def test_a_simulation_says_so_and_is_refused_where_production_is_asked(tmp_path, world, key):
    path = tmp_path / "simulated.zip"
    path.write_bytes(write_bundle(type(world)(Realm.SIMULATION).evidence()))
    code, output = run("verify", path, "--key", key)
    assert code == 0
    assert "SIMULATION: this comes from a simulated federation" in output
    assert run("verify", path, "--key", key, "--realm", "production")[0] == 1
    assert run("verify", path, "--key", key, "--realm", "simulation")[0] == 0


def test_the_wrong_key_is_said_to_be_wrong(tmp_path, world, bundle):
    other = tmp_path / "other.pub"
    other.write_text(world.server.public)
    code, output = run("verify", bundle, "--key", other)
    assert code == 1
    assert "model-version.json is not signed by the given key" in output


def test_what_is_no_bundle_is_said_to_be_none(key):
    code, output = run("verify", key, "--key", key)
    assert code == 1
    assert "the file is not an evidence bundle (bundle.not_a_bundle)" in output


def test_missing_files_are_named(tmp_path, bundle, key):
    code, output = run("verify", tmp_path / "absent.zip", "--key", key)
    cause = "cannot be read: there is no such file; name the right file"
    told = f"error: {tmp_path / 'absent.zip'} {cause} (bundle.unreadable)\n"
    assert (code, output) == (1, told)
    code, output = run("verify", bundle, "--key", tmp_path / "absent.pub")
    told = f"error: {tmp_path / 'absent.pub'} {cause} (key.unreadable)\n"
    assert (code, output) == (1, told)
    for command, reason in ((("verify",), "bundle"), (("log", "verify"), "export")):
        code, output = run(*command, tmp_path, "--key", key)
        told = f"{tmp_path} cannot be read: it is a directory; name the right file"
        assert (code, output) == (1, f"error: {told} ({reason}.unreadable)\n")
    code, output = run("verify", bundle, "--key", key, "--json", key / "x.json")
    assert code == 1
    assert "x.json cannot be written: a part of its path is no directory; name" in output
    assert "(report.unwritable)" in output


def test_the_result_can_be_had_as_json(tmp_path, bundle, key):
    path = tmp_path / "result.json"
    assert run("verify", bundle, "--key", key, "--json", path)[0] == 0
    result = json.loads(path.read_text())
    assert (result["ok"], result["model"], result["realm"]) == (
        True,
        "churn-telco v1",
        "production",
    )
    assert set(result["epsilon"]["north"]) == {"claim", "pld"}
    assert all(check["ok"] for check in result["checks"])


def test_a_result_takes_the_place_of_no_evidence_and_nothing_is_verified_before(
    tmp_path, world, documents, evidence, bundle, key
):
    whole = LogExport(entries=tuple(documents.entries_of(evidence)), checkpoint=evidence.checkpoint)
    export = tmp_path / "log.json"
    export.write_bytes(whole.to_bytes())
    for command in (("verify", bundle), ("log", "verify", export)):
        for taken in (command[-1], key):
            before = taken.read_bytes()
            code, output = run(*command, "--key", key, "--json", taken)
            told = f"error: {taken} is there already; name another file (file.exists)\n"
            assert (code, output) == (1, told)
            assert taken.read_bytes() == before


def test_a_log_export_is_verified(tmp_path, world, documents, evidence, key):
    export = LogExport(
        entries=tuple(documents.entries_of(evidence)), checkpoint=evidence.checkpoint
    )
    path = tmp_path / "log.json"
    path.write_bytes(export.to_bytes())
    code, output = run("log", "verify", path, "--key", key)
    assert code == 0
    assert "ok      log.root" in output
    path.write_bytes(export.model_copy(update={"entries": export.entries[1:]}).to_bytes())
    assert run("log", "verify", path, "--key", key)[0] == 1


def test_a_key_is_read_from_hex_or_pem(tmp_path, world):
    public = world.governance.public
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    path = tmp_path / "key"
    path.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert load_public_key(path) == public
    path.write_text(f" {public.upper()}\n")
    assert load_public_key(path) == public


def test_what_is_no_public_key_is_refused(tmp_path, world):
    secret = tmp_path / "secret"
    world.governance.save(secret)
    other = X25519PrivateKey.generate().public_key()
    contents = [
        b"",
        b"ab",
        b"\xff" * 32,
        b"zz" * 32,
        secret.read_bytes(),
        other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ]
    for content in contents:
        path = tmp_path / "key"
        path.write_bytes(content)
        with pytest.raises(InvalidRecordError, match=r"key is no Ed25519 public key"):
            load_public_key(path)
