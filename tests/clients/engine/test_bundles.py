"""A node accepts the agreed bundle without code, and no other archive."""

import io
import stat
import zipfile
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.engine.bundles import MAX_BUNDLE_BYTES, verify_bundle
from fedcore.apps import MANIFEST, app_files, bundle_files
from fedcore.errors import RefusedError

AGREED = bundle_files()


def packed(
    files: Iterable[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return out.getvalue()


def with_file(name: str, data: bytes) -> bytes:
    return packed([*AGREED.items(), (name, data)])


def changed(name: str, change: Callable[[bytes], bytes]) -> bytes:
    return packed([(path, change(d) if path == name else d) for path, d in AGREED.items()])


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def refusal(content: bytes) -> str:
    with pytest.raises(RefusedError) as error:
        verify_bundle(content)
    assert error.value.codes == ("app.not_agreed",)
    assert "nothing of it was run" in error.value.public
    return error.value.public


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_agreed_bundle_is_accepted_however_it_is_packed_and_in_any_order(method):
    verify_bundle(packed(AGREED.items(), method))
    verify_bundle(packed(reversed(AGREED.items()), method))


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_what_flowers_own_builder_makes_of_the_agreed_app_is_accepted():
    from flwr.cli.build import build_fab_from_files

    verify_bundle(build_fab_from_files(app_files())[0])


def test_what_our_server_sends_is_accepted():
    from fedserver.engine.bundle import build_bundle

    verify_bundle(build_bundle())


@pytest.mark.parametrize(
    "name",
    [
        "clients/app.py",
        "clients/__init__.py",
        "torch.py",
        "torch/__init__.py",
        "sitecustomize.py",
        "fedpact.pth",
        "usercustomize.py",
        "../clients/app.py",
        "/etc/profile",
        "LICENSE/../torch.py",
        "./pyproject.toml",
        "pyproject.toml\\",
        "PYPROJECT.TOML",
        "pyproject.toml ",
        "clients/",
        ".info/",
    ],
)
def test_one_file_more_is_refused(name):
    assert "other files" in refusal(with_file(name, b"open('marker', 'w')"))


@pytest.mark.parametrize("name", AGREED)
def test_one_file_less_is_refused(name):
    assert "other files" in refusal(packed((n, d) for n, d in AGREED.items() if n != name))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("name", AGREED)
def test_a_file_that_is_there_twice_is_refused_even_if_both_are_right(name):
    assert "other files" in refusal(with_file(name, AGREED[name]))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_second_project_file_in_the_place_of_another_file_is_refused():
    kept = [(n, d) for n, d in AGREED.items() if n != "LICENSE"]
    assert "other files" in refusal(packed([*kept, ("pyproject.toml", b"[project]")]))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"fedserver.app:app", b"evil.app:app"),
        (b"clients.app:app", b"evil.app:app"),
        (b"clients.app:app", b"clients.app:app\nagentapp = evil"),
        (b'publisher = "fedpact"', b'publisher = "../.."'),
        (b'name = "fedpact"', b'name = "other"'),
        (b'version = "1.0.0"', b'version = "1.0.0/../.."'),
        (b'version = "1.0.0"', b'version = "1.0.1"'),
        (b'"flwr>=1.41",', b'"flwr>=1.41", "evil",'),
        (b'plan-digest = ""', b'plan-digest = "", extra = 1'),
        (b"[tool.flwr.app.config]", b"[tool.uv]\nindex-url = 'x'\n[tool.flwr.app.config]"),
        (b"[project]", b"[build-system]\nrequires=['evil']\n[project]"),
    ],
)
def test_another_project_file_is_refused(old, new):
    assert old in AGREED["pyproject.toml"]
    said = refusal(changed("pyproject.toml", lambda data: data.replace(old, new)))
    assert "its pyproject.toml is another one" in said


@given(name=st.sampled_from(list(AGREED)), data=st.data())
def test_any_changed_byte_of_any_file_is_refused(name, data):
    original = AGREED[name]
    position = data.draw(st.integers(0, len(original) - 1))
    flip = data.draw(st.integers(1, 255))
    other = original[:position] + bytes([original[position] ^ flip]) + original[position + 1 :]
    assert f"its {name} is another one" in refusal(changed(name, lambda _: other))


@given(name=st.sampled_from(list(AGREED)), more=st.binary(min_size=1, max_size=20))
def test_a_file_that_is_longer_or_shorter_is_refused(name, more):
    assert "another one" in refusal(changed(name, lambda data: data + more))
    assert "another one" in refusal(changed(name, lambda data: data[:-1]))


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFDIR | 0o755, stat.S_IFIFO | 0o600])
def test_a_link_or_another_special_file_in_a_files_place_is_refused(mode):
    files = [(entry(n, mode) if n == "LICENSE" else n, d) for n, d in AGREED.items()]
    assert "no plain file" in refusal(packed(files))


def test_an_archive_that_unpacks_to_gigabytes_is_not_unpacked():
    bomb = changed("LICENSE", lambda data: data + bytes(50_000_000))
    assert len(bomb) < MAX_BUNDLE_BYTES
    assert "its LICENSE is another one" in refusal(bomb)


def test_a_header_that_lies_about_a_files_length_is_refused():
    honest = packed(AGREED.items(), zipfile.ZIP_STORED)
    length = len(AGREED["LICENSE"]).to_bytes(4, "little")
    assert refusal(honest.replace(length, (1 << 31).to_bytes(4, "little")))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_packing_that_flower_does_not_use_is_refused(method):
    assert "packed in another way" in refusal(packed(AGREED.items(), method))


def test_an_encrypted_file_is_refused():
    plain = bytearray(packed(AGREED.items()))
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):
        plain[plain.index(mark) + (6 if mark == b"PK\x03\x04" else 8)] |= 1
    assert refusal(bytes(plain))


def test_a_larger_bundle_is_refused_unread():
    assert "larger" in refusal(b"PK" + bytes(MAX_BUNDLE_BYTES))


def test_an_archive_with_a_comment_is_refused():
    out = io.BytesIO(packed(AGREED.items()))
    with zipfile.ZipFile(out, "a") as archive:
        archive.comment = b"#!/bin/sh"
    assert "more than its archive" in refusal(out.getvalue())


def test_bytes_before_the_archive_are_refused():
    assert "more than its archive" in refusal(b"#!/bin/sh\nexit\n" + packed(AGREED.items()))


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(content):
    refusal(content)


@given(position=st.integers(0, 3000), flip=st.integers(1, 255))
def test_a_damaged_archive_is_refused_or_holds_the_agreed_bytes(position, flip):
    whole = bytearray(packed(AGREED.items()))
    whole[position % len(whole)] ^= flip
    try:
        verify_bundle(bytes(whole))
    except RefusedError:
        return
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == AGREED


def test_the_manifest_names_the_digest_of_every_file():
    lines = AGREED[MANIFEST].decode().splitlines()
    assert [line.split(",")[0] for line in lines] == list(app_files())
