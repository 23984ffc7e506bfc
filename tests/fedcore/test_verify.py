import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore import archive, verify
from fedcore.bundle import write_bundle
from fedcore.models import LogEntry
from fedcore.record import Realm
from fedcore.verify import Report, verify_bundle


@pytest.fixture(scope="module")
def bundle(evidence):
    return write_bundle(evidence)


@pytest.fixture(scope="module")
def members(bundle):
    return archive.unpack(bundle)


def test_honest_evidence_passes_every_check(world, bundle):
    report = verify_bundle(bundle, world.governance.public)
    assert [check for check in report.checks if not check.ok] == []
    assert report.ok
    assert (report.model, report.realm) == ("churn-telco v1", Realm.PRODUCTION)
    assert [claim.unit for claim in report.epsilon] == ["north", "south", "west"]


def test_the_report_says_what_it_cannot_show(world, bundle):
    text = " ".join(verify_bundle(bundle, world.governance.public).cannot_show)
    words = ("truth", "noise", "person", "computed from the updates", "erased", "certified key")
    for word in (*words, "threshold that its audit was made at", "keep checkpoints", "a least one"):
        assert word in text


def test_a_report_without_checks_is_not_ok():
    assert not Report(()).ok


def test_another_key_than_governances_believes_nothing(world, bundle):
    report = verify_bundle(bundle, world.server.public)
    held = [check.name for check in report.checks if check.ok]
    assert held == ["bundle.members"]
    assert (report.model, report.realm, report.epsilon) == (None, None, ())


def test_every_check_is_in_the_reference(world, bundle):
    reference = Path(verify.__file__).parents[1] / "docs" / "reference" / "evidence-bundle.md"
    page = reference.read_text(encoding="utf-8")
    for check in verify_bundle(bundle, world.governance.public).checks:
        assert f"`{check.name}`" in page, check.name


def test_an_unreadable_bundle_is_one_failed_check(world):
    report = verify_bundle(b"nothing", world.governance.public)
    assert [(check.name, check.ok) for check in report.checks] == [("bundle.members", False)]


def test_a_failed_check_hides_no_other(world, evidence, failures):
    both = world.relabelled(
        evidence,
        model_version=lambda model: model.model_copy(
            update={"artifact_bytes": model.artifact_bytes + 1, "delta": 1e-6}
        ),
    )
    assert set(failures(world, both)) == {"artifact", "permit.terms"}


def test_simulated_evidence_passes_only_as_simulated(world):
    simulated = type(world)(Realm.SIMULATION)
    data = write_bundle(simulated.evidence())
    report = verify_bundle(data, simulated.governance.public)
    assert (report.ok, report.realm) == (True, Realm.SIMULATION)
    assert verify_bundle(data, simulated.governance.public, Realm.SIMULATION).ok
    refused = verify_bundle(data, simulated.governance.public, Realm.PRODUCTION)
    assert [check.name for check in refused.checks if check.ok] == ["bundle.members"]


def test_governance_cannot_relabel_a_simulation(world, failures):
    """It signs its own documents for production; units, server and author have not."""
    simulated = type(world)(Realm.SIMULATION).evidence()
    production = world.evidence()
    own = ("model_version", "permit", "contract", "dpia", "dpia_decision", "certificates")
    relabelled = world.reseal(simulated, **{name: getattr(production, name) for name in own})
    found = failures(world, relabelled)
    assert {"plan.signed", "reports.signed", "receipts.signed"} <= set(found)
    assert "plan.json" in found["plan.signed"]


@settings(max_examples=150, deadline=None)
@given(place=st.data())
def test_any_flipped_byte_under_a_new_manifest_fails_and_names_the_member(world, members, place):
    path = place.draw(st.sampled_from(sorted(members)))
    changed = bytearray(members[path])
    changed[place.draw(st.integers(0, len(changed) - 1))] ^= 1 << place.draw(st.integers(0, 7))
    report = verify_bundle(archive.pack({**members, path: bytes(changed)}), world.governance.public)
    failed = [check.text for check in report.checks if not check.ok]
    assert any(path in text for text in failed), failed


@pytest.mark.parametrize(
    "folder", ["certificates", "reports", "receipts", "cosignatures", "log", "positions"]
)
def test_a_repeated_document_changes_no_meaning_or_fails(world, evidence, failures, folder):
    field = getattr(evidence, folder)
    repeated = dataclasses.replace(evidence, **{folder: (*field, field[-1])})
    harmless = {"cosignatures", "log", "positions"}
    assert bool(failures(world, repeated)) == (folder not in harmless)


def test_more_entries_in_the_log_change_nothing(world, documents, evidence, failures):
    entries = documents.entries_of(evidence)
    other = LogEntry(
        kind="opt-out-root", document=documents.digest("other"), salt=documents.sha("salt")
    )
    more = [*entries[:8], other, *entries[8:], other]
    assert not failures(world, world.cosigned(evidence, more, world.nodes))


def test_verification_reaches_neither_training_nor_network_packages():
    program = "import fedcore.verify_cli, sys; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout
    assert "fedcore.verify_cli" in loaded.split()
    heavy = {"torch", "opacus", "flwr", "httpx", "fastapi", "sqlmodel", "sqlalchemy"}
    assert heavy & {name.partition(".")[0] for name in loaded.split()} == set()
    # Statistics come with the first epsilon: they take longer to import than all the rest.
    assert not {"dp_accounting", "scipy.stats"} & set(loaded.split())
