import hashlib
import hmac
import itertools
import json
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.pseudonyms import Pseudonymiser, create_key, load_key, normalise
from fedcore.contracts import SubjectRule
from fedcore.errors import DataError, InvalidRecordError
from fedcore.keyfiles import write_secret

ROOT = Path(__file__).parents[2]
VECTORS = json.loads(
    (ROOT / "tests" / "reference" / "pseudonyms.json").read_text(encoding="utf-8")
)["vectors"]
KEY = bytes(range(32))
NAMES = st.from_regex(r"[a-z0-9][a-z0-9_.\-]{0,20}", fullmatch=True)


def rule(namespace="numbers", column="id"):
    return SubjectRule(column=column, namespace=namespace, normaliser="trim-upper/1")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["identifier"].strip())
def test_pseudonyms_are_the_published_ones(vector):
    subject = SubjectRule.model_validate(vector["rule"])
    made = Pseudonymiser(bytes.fromhex(vector["key"]), subject).pseudonym(vector["identifier"])
    assert made == vector["pseudonym"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["identifier"].strip())
def test_the_published_ones_follow_from_the_definition(vector):
    parts = (
        b"fedpact.pseudonym/1",
        vector["rule"]["namespace"].encode(),
        vector["rule"]["normaliser"].encode(),
        vector["identifier"].strip().upper().encode(),
    )
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    mac = hmac.new(bytes.fromhex(vector["key"]), message, hashlib.sha256)
    assert mac.hexdigest() == vector["pseudonym"]


def test_the_vectors_of_the_page_are_so():
    page = (ROOT / "docs" / "reference" / "opt-outs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(.+)` \| `([0-9a-f]{64})` \|$", page, re.MULTILINE)
    maker = Pseudonymiser(KEY, rule("customer-number"))
    assert [maker.pseudonym(identifier) for identifier, _ in rows] == [made for _, made in rows]
    assert len(rows) == 3


def test_the_seal_of_a_group_s_opt_out_follows_from_the_definition():
    said = json.loads((ROOT / "tests" / "golden" / "group-opt-out-1.json").read_text())
    seal = said.pop("seal")
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    message = b"fedpact.group-opt-out/1" + canonical
    assert hmac.new(KEY, message, hashlib.sha256).hexdigest() == seal


@given(st.text(min_size=1).filter(str.strip), st.sampled_from(["", " ", "\t", "\n  "]))
def test_spellings_that_the_rule_normalises_alike_have_one_pseudonym(identifier, space):
    maker = Pseudonymiser(KEY, rule())
    same = {maker.pseudonym(text) for text in (identifier, space + identifier + space)}
    assert len(same) == 1
    assert maker.pseudonym("c17") == maker.pseudonym(" C17 ")


@given(st.lists(st.tuples(NAMES, st.text(min_size=1, max_size=6)), min_size=2, max_size=6))
def test_other_customers_and_other_namespaces_have_other_pseudonyms(pairs):
    distinct = {(name, normalise(value)) for name, value in pairs if normalise(value)}
    made = {Pseudonymiser(KEY, rule(name)).pseudonym(value) for name, value in distinct}
    assert len(made) == len(distinct)


def test_no_two_inputs_run_together():
    cut = "abcdef"
    made = {
        Pseudonymiser(KEY, rule(cut[:place])).pseudonym(cut[place:]) for place in range(1, len(cut))
    }
    assert len(made) == len(cut) - 1


def test_a_pseudonym_depends_on_every_bit_of_the_key_and_not_on_the_column():
    keys = [bytes(32)] + [bytes(i) + bytes([1]) + bytes(31 - i) for i in range(32)]
    assert len({Pseudonymiser(key, rule()).pseudonym("C1") for key in keys}) == 33
    both = {Pseudonymiser(KEY, rule(column=name)).pseudonym("C1") for name in ("id", "number")}
    assert len(both) == 1


@pytest.mark.parametrize("identifier", ["", " ", "\t\n", "\x1c", "\u2003"])
def test_an_empty_identifier_has_none(identifier):
    with pytest.raises(DataError) as error:
        Pseudonymiser(KEY, rule()).pseudonym(identifier)
    assert error.value.code == "data.subject_missing"


@pytest.mark.parametrize("length", [0, 16, 31])
def test_a_key_below_256_bits_is_refused(length):
    Pseudonymiser(bytes(32), rule())
    with pytest.raises(InvalidRecordError) as error:
        Pseudonymiser(bytes(length), rule())
    assert error.value.code == "key.too_short"


def test_a_key_is_fresh_private_and_never_overwritten(tmp_path):
    keys = [create_key(tmp_path / f"key-{number}") for number in range(3)]
    assert all(a != b for a, b in itertools.combinations(keys, 2))
    assert stat.S_IMODE((tmp_path / "key-0").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        create_key(tmp_path / "key-0")
    assert load_key(tmp_path / "key-0") == keys[0]


@pytest.mark.parametrize("content", [None, b"xyz", b"\xff\xff"])
def test_a_lost_key_is_named_and_never_replaced(tmp_path, content):
    path = tmp_path / "pseudonym.key"
    if content is not None:
        write_secret(path, content)
    with pytest.raises(InvalidRecordError) as error:
        load_key(path)
    assert error.value.code == "key.unreadable"
    assert path.exists() == (content is not None)
