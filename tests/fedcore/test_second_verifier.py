"""The second verifier, written from the format alone, agrees with `fedpact verify`, lie by lie."""

import ast
import contextlib
import importlib.util
import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore import archive, canonical, merkle
from fedcore.bundle import write_bundle
from fedcore.errors import FedError
from fedcore.record import Realm
from fedcore.verify import verify_bundle

FILE = Path(__file__).parents[2] / "docs" / "reference" / "verify_bundle.py"


def load(path: Path, name: str) -> Any:
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


second = load(FILE, "second_verifier")
lies = load(Path(__file__).with_name("lies.py"), "fedcore_lies")
judged = load(Path(__file__).with_name("promotion_lies.py"), "fedcore_promotion_lies")
mitigated = load(Path(__file__).with_name("mitigation_lies.py"), "fedcore_mitigation_lies")
counted = load(Path(__file__).with_name("segment_lies.py"), "fedcore_segment_lies")
stopped = load(Path(__file__).with_name("stopping_lies.py"), "fedcore_stopping_lies")
ruled = load(Path(__file__).with_name("rule_lies.py"), "fedcore_rule_lies")
LIES = {
    **lies.LIES,
    **judged.LIES,
    **judged.WIDE,
    **mitigated.LIES,
    **counted.LIES,
    **counted.WIDE,
    **ruled.LIES,
    **stopped.LIES,
}
FAR_OUT = judged.FAR_OUT
TWINS = {
    **lies.TWINS,
    **judged.TWINS,
    **mitigated.TWINS,
    **counted.TWINS,
    **ruled.TWINS,
    **stopped.TWINS,
}


def verdicts(data, key, realm=None):
    """Return the checks that fail by each of the verifiers."""
    first = verify_bundle(data, key, realm)
    other = second.check_bundle(data, key, realm.value if realm else "")
    failed = {name: text for name, ok, text in other if not ok}
    return {check.name: check.text for check in first.checks if not check.ok}, failed


@pytest.fixture(scope="module")
def bundle(promoted):
    return write_bundle(promoted)


@pytest.fixture(scope="module")
def members(bundle):
    return archive.unpack(bundle)


@pytest.mark.parametrize("name", LIES)
def test_both_verifiers_refuse_it_and_the_second_names_a_check_that_the_first_finds_broken(
    world, documents, evidence, name
):
    check, lie = LIES[name]
    first, other = verdicts(write_bundle(lie(world, documents, evidence)), world.governance.public)
    assert check in first
    if name in {*judged.LIES, *mitigated.LIES, *counted.LIES, *stopped.LIES}:
        assert set(first) == {check}
    assert other
    assert set(other) <= set(first), (first, other)


@pytest.mark.parametrize("name", TWINS)
def test_both_verifiers_pass_the_honest_twins(world, documents, evidence, name):
    data = write_bundle(TWINS[name](world, documents, evidence))
    assert verdicts(data, world.governance.public) == ({}, {})


def test_every_check_has_a_lie_that_it_notices(world, bundle):
    report = verify_bundle(bundle, world.governance.public)
    known = {check for check, _ in LIES.values()} | {"bundle.members"}
    assert {check.name for check in report.checks} == known
    assert {name for name, _, _ in second.check_bundle(bundle, world.governance.public)} <= known


@pytest.fixture(scope="module")
def opened(world, documents, evidence):
    """Return every lie that can be opened, as the second verifier opens it."""
    found = []
    for _, lie in LIES.values():
        with contextlib.suppress(*second.BROKEN):
            data = write_bundle(lie(world, documents, evidence))
            found.append(second.Bundle(data, world.governance.public, ""))
    return found


def fails(bundle, title, rules, before):
    """Return whether a check fails that has these rules; `before` are those of earlier checks."""
    runs = bundle.runs if "/" in title else bundle.runs[:1]
    for run in runs:
        names = {**vars(second), **bundle.names, **(run if "/" in title else {})}
        with contextlib.suppress(*second.BROKEN):
            second.follow(before, names)
        try:
            second.follow(rules, names)
        except second.BROKEN:
            return True
    return False


@pytest.mark.slow
def test_every_rule_has_a_lie_that_no_other_rule_of_its_check_notices(opened):
    unneeded: list[tuple[str, str]] = []
    defined: list[str] = []
    for title, rules in second.checks():
        failing = [bundle for bundle in opened if fails(bundle, title, rules, defined)]
        for place, rule in enumerate(rules):
            others = rules[:place] + rules[place + 1 :]
            if " := " not in rule and all(fails(b, title, others, defined) for b in failing):
                unneeded.append((title, rule))
        defined = defined + [rule for rule in rules if " := " in rule and "/" not in title]
    assert unneeded == []


@pytest.mark.parametrize("name", FAR_OUT)
def test_no_value_that_is_signed_ends_a_verification(world, documents, evidence, name):
    first, other = verdicts(
        write_bundle(FAR_OUT[name](world, documents, evidence)), world.governance.public
    )
    assert first
    assert other
    assert set(other) <= set(first)


def test_no_depth_of_json_ends_a_verification(world, members):
    for depth in range(984, 1005, 4):
        for text in (b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth):
            changed = archive.pack({**members, "permit.json": text})
            first, other = verdicts(changed, world.governance.public)
            assert set(first) == {"bundle.members"}
            assert other


def test_both_verifiers_believe_nothing_by_another_key_or_realm(world, bundle):
    simulated = type(world)(Realm.SIMULATION)
    data = write_bundle(simulated.evidence())
    assert verdicts(data, simulated.governance.public) == ({}, {})
    for found in (
        verdicts(bundle, world.server.public),
        verdicts(data, simulated.governance.public, Realm.PRODUCTION),
        verdicts(bundle, world.governance.public, Realm.SIMULATION),
    ):
        assert set(found[1]) <= set(found[0])
        assert found[1]
        assert len(found[0]) >= 40


def flipped(data, place):
    changed = bytearray(data)
    changed[place] ^= 1 << place % 8
    return bytes(changed)


def test_any_changed_file_fails_at_both_and_is_named_whatever_the_manifest_says(
    world, bundle, members
):
    """Every file: at its start as it lies there, at its end and inside under a new manifest."""
    for path, data in members.items():
        for place in (0, len(data) // 3, len(data) - 1):
            if place:
                changed = archive.pack({**members, path: flipped(data, place)})
            else:
                changed = flipped(bundle, bundle.index(path.encode() + data) + len(path))
            report = verify_bundle(changed, world.governance.public)
            other = second.check_bundle(changed, world.governance.public)
            for texts in (
                [check.text for check in report.checks if not check.ok],
                [text for _, ok, text in other if not ok],
            ):
                assert any(path in text for text in texts), (path, place, texts)


@settings(max_examples=60, deadline=None)
@given(place=st.data())
def test_any_flipped_byte_of_the_archive_fails_at_both(world, bundle, place):
    changed = flipped(bundle, place.draw(st.integers(0, len(bundle) - 1)))
    first, other = verdicts(changed, world.governance.public)
    assert set(first) == set(other) == {"bundle.members"}


@given(
    st.recursive(
        st.booleans()
        | st.text()
        | st.integers(-(2**53) + 1, 2**53 - 1)
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_both_verifiers_write_one_form_of_json(value):
    try:
        expected = canonical.encode(value)
    except FedError:
        return
    assert second.canonical(value).encode() == expected


def holds(verify, *arguments):
    try:
        return verify(*arguments) is not False
    except (FedError, ValueError, IndexError):
        return False


def lied(proof, change):
    """Return a proof that lacks a hash, has one too many, or another one."""
    return {
        "none": proof,
        "drop": proof[1:],
        "add": [*proof, b"0" * 32],
        "swap": [b"1" * 32, *proof[1:]],
    }[change]


CHANGES = st.sampled_from(["none", "drop", "add", "swap"])


@given(old=st.integers(0, 40), new=st.integers(0, 40), change=CHANGES)
def test_both_verifiers_accept_the_same_proofs_of_consistency(old, new, change):
    leaves = [merkle.leaf_hash(bytes([number])) for number in range(max(old, new))]
    roots = [merkle.root_hash(leaves[:size]) for size in (old, new)]
    proof = lied(merkle.consistency_proof(leaves[:new], old) if old <= new else [], change)
    before, after = (
        second.Doc(size=size, root=root.hex()) for size, root in zip((old, new), roots, strict=True)
    )
    texts = [item.hex() for item in proof]
    found = holds(merkle.verify_consistency, old, roots[0], new, roots[1], proof)
    assert holds(second.continues, before, after, texts) == found
    assert found or change != "none" or old > new


@given(size=st.integers(1, 40), place=st.integers(0, 40), change=CHANGES)
def test_both_verifiers_accept_the_same_proofs_of_inclusion(size, place, change):
    leaves = [merkle.leaf_hash(bytes([number])) for number in range(size)]
    root, leaf = merkle.root_hash(leaves), leaves[min(place, size - 1)]
    proof = lied(merkle.inclusion_proof(leaves, min(place, size - 1)), change)
    found = holds(merkle.verify_inclusion, leaf, place, size, proof, root)
    entry = second.Doc(index=place, proof=[item.hex() for item in proof])
    log = second.Doc(size=size, root=root.hex())
    assert holds(second.is_at, leaf, entry, log) == found
    assert found or change != "none" or place >= size


def test_the_second_makes_no_more_groups_than_an_audit_compares():
    terms = second.Doc(
        attributes=[
            second.Doc(name=name, groups=[str(number) for number in range(count)])
            for name, count in (("a", 25), ("b", 10), ("c", 2), ("d", 3))
        ]
    )
    assert len(second.groups_of(terms, "a & b & c")) == 500
    with pytest.raises(ValueError, match="more groups than an audit"):
        second.groups_of(terms, "a & b & d")


def test_it_runs_alone_with_cryptography_and_the_standard_library(world, bundle, tmp_path):
    imported = set()
    for item in ast.walk(ast.parse(FILE.read_text(encoding="utf-8"))):
        if isinstance(item, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in item.names}
        elif isinstance(item, ast.ImportFrom):
            imported.add((item.module or "").partition(".")[0])
    assert imported - sys.stdlib_module_names == {"cryptography"}
    (tmp_path / "bundle").write_bytes(bundle)
    (tmp_path / "broken").write_bytes(flipped(bundle, len(bundle) // 2))
    for name, code, said in (("bundle", 0, "ok     log.seen"), ("broken", 1, "FAILED bundle")):
        command = [sys.executable, "-I", str(FILE), str(tmp_path / name), world.governance.public]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, said in done.stdout) == (code, True), done


def zipped(path, data, method=zipfile.ZIP_STORED):
    """Return an archive of one member."""
    with zipfile.ZipFile(file := io.BytesIO(), "w", method) as made:
        made.writestr(path, data)
    return file.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_both_refuse_a_compressed_member_before_it_is_unpacked(world, method, monkeypatch):
    data = zipped("manifest.json", b"0" * 2**20, method)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
    first, other = verdicts(data, world.governance.public)
    assert set(first) == set(other) == {"bundle.members"}
    assert "compressed" in other["bundle.members"]


def test_both_refuse_a_member_that_has_flags(world, bundle):
    for flag in (0x1, 0x8, 0x20, 0x800):
        changed = bytearray(bundle)
        central = bundle.index(b"PK\x01\x02")
        for place in (6, central + 8):
            changed[place : place + 2] = flag.to_bytes(2, "little")
        first, other = verdicts(bytes(changed), world.governance.public)
        assert set(first) == set(other) == {"bundle.members"}
        assert "flags" in other["bundle.members"]


def test_no_text_of_a_bundle_steers_the_terminal(world, tmp_path):
    manifest = canonical.encode({"schema": "bundle/1", "members": []})
    with zipfile.ZipFile(tmp_path / "bundle", "w") as made:
        made.writestr("manifest.json", manifest)
        made.writestr("\x1b[2Jall is well: \x07", b"")
    command = [sys.executable, "-I", str(FILE), str(tmp_path / "bundle"), world.governance.public]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert b"x1b[2Jall is well" in done.stdout
    assert all(32 <= byte < 127 for byte in done.stdout.rstrip())


def test_it_has_no_more_lines_than_it_needs_and_none_is_long():
    lines = FILE.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 887
    assert max(map(len, lines)) <= 100


def test_none_of_its_functions_is_above_40_lines():
    tree = ast.parse(FILE.read_text(encoding="utf-8"))
    functions = [item for item in ast.walk(tree) if isinstance(item, ast.FunctionDef)]
    lengths = {item.name: (item.end_lineno or 0) - item.lineno + 1 for item in functions}
    assert {name for name, length in lengths.items() if length > 40} == set()
