"""What a model claims about epsilon follows from its receipts, by a script that is not ours."""

import ast
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fedcore import canonical
from fedcore.plans import PrivacyTerms
from fedcore.privacy import accounting
from fedcore.record import Realm
from fedcore.signing import Envelope, SigningKey, sign_record
from fedcore.verify import verify_bundle
from governance import models

SCRIPT = Path(__file__).parents[1] / "reference" / "recompute_epsilon.py"


def recompute(bundle, tmp_path):
    path = tmp_path / "bundle.fedpact"
    path.write_bytes(bundle)
    done = subprocess.run(
        [sys.executable, "-I", str(SCRIPT), str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_script_imports_the_standard_library_and_dp_accounting_only():
    nodes = list(ast.walk(ast.parse(SCRIPT.read_text())))
    found = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    found |= {str(n.module) for n in nodes if isinstance(n, ast.ImportFrom)}
    assert {name.split(".")[0] for name in found} - set(sys.stdlib_module_names) == {
        "dp_accounting"
    }


@pytest.mark.parametrize(
    "privacy",
    [
        PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=4.0, delta=1e-5),
        PrivacyTerms(
            l2_clip_norm=0.5, noise_multiplier=1.5, sampling_rate=0.4, local_steps=3, delta=1e-5
        ),
    ],
    ids=["full-batch", "sampled"],
)
def test_epsilon_recomputed_from_receipts_alone_is_the_signed_one(build, worlds, tmp_path, privacy):
    world = build(worlds.make_plan(rounds=2, privacy=privacy))
    world.federation.grid.down.add(world.federation.node_id("west"))
    world.run(watch=lambda report: world.federation.grid.down.clear())
    code, found = recompute(world.bundle(), tmp_path)
    assert code == 0, found
    assert {unit: values["receipts"] for unit, values in found["units"].items()} == {
        "north": 2,
        "south": 2,
        "west": 1,
    }
    assert found["units"]["west"]["claim"] < found["units"]["north"]["claim"]


def test_the_script_sees_a_claim_that_does_not_follow_from_the_receipts(
    build, worlds, pair, tmp_path
):
    world = build(pair)
    world.run()
    members = worlds.members_of(world.bundle())
    receipt = worlds.receipts_of(world.bundle())[0]
    louder = receipt.event.model_copy(update={"noise_multiplier": 3.0})
    forged = sign_record(
        receipt.model_copy(update={"event": louder}), SigningKey.generate(), Realm.SIMULATION
    )
    name = next(
        name
        for name, data in members.items()
        if name.startswith("receipts/") and Envelope.from_bytes(data).digest == receipt.digest
    )
    members[name] = canonical.encode(forged.model_dump(mode="json", by_alias=True))
    path = tmp_path / "forged.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    code, found = recompute(path.read_bytes(), tmp_path)
    assert code == 1
    assert found["units"][receipt.unit]["claim"] > found["units"][receipt.unit]["signed_claim"]


def test_an_accountant_that_begins_anew_each_round_is_seen_by_whoever_verifies(
    build, worlds, pair, tmp_path, monkeypatch
):
    """Governance then states the epsilon of one round for the run, and signs it."""
    for name in ("renyi_epsilon", "pld_epsilon"):
        whole = getattr(accounting, name)
        monkeypatch.setattr(models, name, lambda events, delta, of=whole: of(events[-1:], delta))
    world = build(pair)
    world.run()
    monkeypatch.undo()
    report = verify_bundle(world.bundle(), world.federation.governance_key.public)
    assert {check.name for check in report.checks if not check.ok} == {"epsilon"}
    code, found = recompute(world.bundle(), tmp_path)
    assert code == 1
    assert all(unit["claim"] > unit["signed_claim"] for unit in found["units"].values())
