import dataclasses
import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore import archive, canonical
from fedcore.bundle import read_bundle, write_bundle
from fedcore.errors import InvalidRecordError


@pytest.fixture(scope="module")
def bundle(evidence):
    return write_bundle(evidence)


@pytest.fixture(scope="module")
def members(bundle):
    return archive.unpack(bundle)


def zipped(files, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as file:
        for path, data in files:
            file.writestr(path, data)
    return buffer.getvalue()


def code_of(data):
    with pytest.raises(InvalidRecordError) as caught:
        read_bundle(data)
    return caught.value.code, caught.value.public


def test_reading_returns_what_was_written(evidence, bundle):
    assert read_bundle(bundle) == evidence


def test_optional_revocation_survives(evidence):
    revoked = dataclasses.replace(evidence, revocation=evidence.permit)
    assert read_bundle(write_bundle(revoked)) == revoked


def test_renewals_and_hand_overs_survive_and_are_left_out_when_there_are_none(evidence, members):
    more = dataclasses.replace(
        evidence, renewals=(evidence.permit, evidence.plan), handovers=(evidence.contract,)
    )
    assert read_bundle(write_bundle(more)) == more
    found = set(archive.unpack(write_bundle(more))) - set(members)
    assert found == {"renewals/000001.json", "renewals/000002.json", "handovers/000001.json"}


def test_what_a_model_was_judged_by_survives_and_lies_in_folders_of_its_own(promoted, members):
    data = write_bundle(promoted)
    assert read_bundle(data) == promoted
    more = {path for path in archive.unpack(data) if path.split("/")[0] not in {"log", "receipts"}}
    folders = {path.rpartition("/")[0] for path in more - set(members)}
    evaluation = "evaluations/000001"
    assert folders == {
        "audits",
        "waivers",
        "approvals",
        "moves",
        evaluation,
        *(f"{evaluation}/{name}" for name in ("certificates", "reports", "receipts")),
    }


@pytest.mark.parametrize("name", ["permit.json", "evaluation.json", "receipts/000001.json"])
def test_an_evaluation_with_a_paper_missing_is_refused_and_named(promoted, name):
    found = archive.unpack(write_bundle(promoted))
    path = f"evaluations/000001/{name}"
    del found[path]
    code, public = code_of(archive.pack(found))
    assert code in {"bundle.member_missing", "bundle.member_unexpected"}
    assert "evaluations/000001/" in public


def test_equal_evidence_has_equal_bytes(world, bundle):
    assert write_bundle(world.evidence()) == bundle


def test_members_are_plain_files_for_any_zip_tool(bundle, members):
    with zipfile.ZipFile(io.BytesIO(bundle)) as file:
        assert file.namelist() == sorted([*members, "manifest.json"])
        assert file.read("model.safetensors") == members["model.safetensors"]


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"not a zip", b"PK\x05\x06" + b"\x00" * 18], ids=range(4)
)
def test_what_is_no_bundle_is_refused_with_a_sentence(data):
    assert code_of(data)[0] in {"bundle.not_a_bundle", "bundle.member_missing"}


@pytest.mark.parametrize(
    "path", ["permit.json", "model.safetensors", "receipts/000002.json", "log/000001.json"]
)
def test_a_missing_member_is_named(bundle, members, path):
    without = {name: data for name, data in members.items() if name != path}
    manifest = archive.BundleManifest(
        members=tuple(
            archive.Member(path=name, digest=canonical.digest(members[name]))
            for name in sorted(members)
        )
    )
    listed = zipped(sorted({**without, "manifest.json": manifest.to_bytes()}.items()))
    assert code_of(listed) == ("bundle.member_missing", f"the bundle lacks {path}")


@pytest.mark.parametrize("path", ["permit.json", "model.safetensors", "receipts/000002.json"])
def test_a_member_left_out_together_with_its_manifest_line_is_named(members, path):
    without = {name: data for name, data in members.items() if name != path}
    assert code_of(archive.pack(without)) == ("bundle.member_missing", f"the bundle lacks {path}")


@pytest.mark.parametrize(
    "path",
    ["extra.json", "receipts/000099.json", "receipts/1.json", "../permit.json", "/permit.json"],
)
def test_a_member_that_does_not_belong_is_named(members, path):
    code, sentence = code_of(archive.pack({**members, path: b"{}"}))
    # A gap in the numbers makes the last expected number the missing one.
    assert code in {"bundle.member_unexpected", "bundle.member_missing"}
    assert path.lstrip("/.") in sentence or "receipts/" in sentence


def test_a_member_that_the_manifest_does_not_list_is_named(bundle, members):
    with zipfile.ZipFile(io.BytesIO(bundle)) as file:
        content = [(name, file.read(name)) for name in file.namelist()]
    assert code_of(zipped([*content, ("revocation.json", b"{}")])) == (
        "bundle.member_unexpected",
        "the bundle holds revocation.json, which does not belong to it",
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(bundle):
    with zipfile.ZipFile(io.BytesIO(bundle)) as file:
        content = [(name, file.read(name)) for name in file.namelist()]
    assert code_of(zipped([*content, content[0]]))[0] == "bundle.member_unexpected"


def test_compressed_members_are_refused_so_that_nothing_unpacks_to_more(bundle):
    bomb = zipped([("manifest.json", b"0" * 10_000_000)], compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    assert code_of(bomb)[0] == "bundle.member_changed"


def test_a_document_above_the_limit_is_refused_at_reading_and_writing(members):
    large = {**members, "permit.json": b" " * (canonical.MAX_DOCUMENT_BYTES + 1)}
    with pytest.raises(InvalidRecordError, match=r"permit\.json is larger than 16 MiB"):
        archive.pack(large)
    assert code_of(zipped(large.items()))[0] == "bundle.too_large"


def test_an_archive_above_the_limit_is_refused_unread(monkeypatch, bundle):
    monkeypatch.setattr(archive, "MAX_BUNDLE_BYTES", len(bundle) - 1)
    assert code_of(bundle)[0] == "bundle.too_large"
    monkeypatch.setattr(archive, "MAX_BUNDLE_BYTES", len(bundle))
    read_bundle(bundle)


def test_what_could_not_be_read_is_not_written(monkeypatch, members):
    size = sum(len(data) for data in members.values())
    monkeypatch.setattr(archive, "MAX_BUNDLE_BYTES", size)
    with pytest.raises(InvalidRecordError, match=r"bundle\.too_large"):
        archive.pack(members)
    monkeypatch.undo()
    monkeypatch.setattr(archive, "MAX_MEMBERS", len(members) - 1)
    with pytest.raises(InvalidRecordError, match=r"bundle\.too_large"):
        archive.pack(members)


def test_a_member_exchanged_under_the_old_manifest_is_named(bundle, members):
    with zipfile.ZipFile(io.BytesIO(bundle)) as file:
        content = {name: file.read(name) for name in file.namelist()}
    content["plan.json"] = content["permit.json"]
    assert code_of(zipped(content.items())) == (
        "bundle.member_changed",
        "plan.json was changed after the bundle was written",
    )


def test_too_many_members_are_refused(monkeypatch, bundle, members):
    monkeypatch.setattr(archive, "MAX_MEMBERS", len(members) - 1)
    assert code_of(bundle)[0] == "bundle.too_large"
    monkeypatch.setattr(archive, "MAX_MEMBERS", len(members))
    read_bundle(bundle)


@pytest.mark.parametrize("hide", [lambda b: b"x" + b, lambda b: b + b"x"], ids=["before", "after"])
def test_bytes_outside_of_members_are_refused(bundle, hide):
    assert code_of(hide(bundle))[0] in {"bundle.archive_changed", "bundle.not_a_bundle"}


def test_another_time_stamp_in_the_archive_is_refused(members, bundle):
    with zipfile.ZipFile(io.BytesIO(bundle)) as file:
        content = [(name, file.read(name)) for name in file.namelist()]
    assert code_of(zipped(content))[0] == "bundle.archive_changed"


def test_a_document_that_is_no_envelope_is_named(members):
    code, sentence = code_of(archive.pack({**members, "plan.json": b"{}"}))
    assert code == "bundle.member_invalid"
    assert sentence.startswith("plan.json: ")


def test_a_manifest_out_of_order_is_refused(members):
    listed = tuple(
        archive.Member(path=name, digest=canonical.digest(members[name]))
        for name in sorted(members, reverse=True)
    )
    manifest = archive.BundleManifest(members=listed).to_bytes()
    data = zipped(sorted({**members, "manifest.json": manifest}.items()))
    assert code_of(data) == (
        "bundle.member_changed",
        "manifest.json was changed after the bundle was written",
    )


@given(place=st.data())
def test_any_flipped_byte_of_a_member_names_that_member(bundle, members, place):
    path = place.draw(st.sampled_from(sorted(members)))
    with zipfile.ZipFile(io.BytesIO(bundle)) as file:
        info = file.getinfo(path)
    offset = place.draw(st.integers(0, info.file_size - 1))
    # A local header has 30 bytes before the name.
    position = info.header_offset + 30 + len(path) + offset
    assert bundle[position] == members[path][offset]
    changed = bytearray(bundle)
    changed[position] ^= 1 << place.draw(st.integers(0, 7))
    assert code_of(bytes(changed)) == (
        "bundle.member_changed",
        f"{path} was changed after the bundle was written",
    )


@given(place=st.data())
def test_any_flipped_byte_of_the_archive_is_refused(bundle, place):
    changed = bytearray(bundle)
    changed[place.draw(st.integers(0, len(bundle) - 1))] ^= 1 << place.draw(st.integers(0, 7))
    assert code_of(bytes(changed))[0].startswith("bundle.")


@given(data=st.binary(max_size=200), keep=st.integers(0, 2000))
def test_no_bytes_make_the_reader_fail_otherwise(bundle, data, keep):
    assert code_of(data)[0].startswith("bundle.")
    assert code_of(data + bundle[len(bundle) - keep :])[0].startswith("bundle.")
