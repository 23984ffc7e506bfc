"""A change of pseudonym keys, and what the one reader yields then, against a real governance."""

import itertools
import shutil
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients import intake, runtime
from clients.data import Inputs, load_examples
from clients.keyring import LIST, key_path, load_ring
from clients.rotation import reissue_events, retire_key, rotate_key
from clients.sent import open_gateway
from clients.sources import source_of
from clients.statements import Statement
from fedcore.errors import ConflictError, DataError, InvalidRecordError
from fedcore.optouts import EFFECTS, states_of
from fedcore.signing import sign_record

CUSTOMERS = [f"C{number}" for number in range(1, 9)]
EVERYBODY = set(CUSTOMERS)
# All states that there are, as what was said before.
PATHS: tuple[tuple[Any, ...], ...] = (
    ("art21_2", None),
    ("art21_2", None, "withdrawn"),
    ("art21_1", None),
    ("art21_1", None, "upheld"),
    ("art21_1", None, "rejected", None),
    ("art21_1", None, "rejected"),
    ("art7_3", "consented"),
    ("art7_3", "consented", None),
    ("art18", None, "lifted"),
    ("art17", None),
)


def examples(site, contract, features, purpose="marketing"):
    pseudonymiser, left_out = site.reading(contract, purpose)
    today = site.runtime.clock.now().date()
    source, inputs = source_of(site.settings), Inputs(features)
    return load_examples(source, contract, inputs, pseudonymiser, left_out, today)


def read(site, contract, features, purpose="marketing"):
    """The customers whom the reader yields."""
    maker, left_out = site.reading(contract, purpose)
    inside = {c for c in CUSTOMERS if not left_out(maker.pseudonym(c), *maker.former(c))}
    assert len(examples(site, contract, features, purpose).labels) == len(inside)
    return inside


def say(site, contract, customer, ground, act=None, purpose="marketing"):
    reason: Any = "legal_claims" if act == "rejected" else None
    statement = Statement(customer, purpose, ground, act=act, reason=reason)
    return site.take_in([statement], contract)[0]


def state_of(site, contract, customer, ground):
    """The state of an objection under the present key."""
    pseudonym = site.pseudonymiser(contract).pseudonym(customer)
    return states_of(site.opt_outs.entries()).get(("marketing", ground), {}).get(pseudonym)


def test_whoever_was_excluded_is_so_under_every_later_key(site, contract, features):
    say(site, contract, "C2", "art21_2")
    for version in (2, 3):
        assert rotate_key(site) == version
        assert read(site, contract, features) == EVERYBODY - {"C2"}
    say(site, contract, "C3", "gpc")
    assert site.opt_outs.events()[-1].key_version == 3
    assert read(site, contract, features) == EVERYBODY - {"C2", "C3"}
    assert reissue_events(site, contract).carried == 1
    assert read(site, contract, features) == EVERYBODY - {"C2", "C3"}
    site.synchronise()
    assert read(site, contract, features) == EVERYBODY - {"C2", "C3"}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: "-".join(map(str, path)))
def test_a_state_is_carried_over_with_all_that_led_to_it(site, contract, features, path):
    ground, *acts = path
    for act in acts:
        say(site, contract, "C2", ground, act)
    site.synchronise()
    said, before = site.opt_outs.events(), state_of(site, contract, "C2", ground)
    inside = read(site, contract, features)
    rotate_key(site)
    assert state_of(site, contract, "C2", ground) is None
    found = reissue_events(site, contract)
    assert (found.carried, found.left) == (1, 0)
    assert state_of(site, contract, "C2", ground) == before
    assert read(site, contract, features) == inside
    *repeated, end = site.opt_outs.events()[len(said) :]
    assert (end.act, end.pseudonym, end.reason) == ("reissued", said[-1].pseudonym, said[-1].reason)
    same = {"pseudonym", "key_version", "sequence", "repeats"}
    assert [e.repeats for e in repeated] == [e.sequence for e in said]
    assert [e.model_dump(exclude=same) for e in repeated] == [
        e.model_dump(exclude=same) for e in said
    ]
    assert reissue_events(site, contract).carried == 0
    assert site.synchronise().last_sequence == 2 * len(said) + 1


def test_an_act_after_a_rotation_finds_the_objection_before_it(site, contract, features):
    say(site, contract, "C2", "art21_1")
    say(site, contract, "C3", "art7_3", "consented", "retention")
    rotate_key(site)
    assert read(site, contract, features, "retention") == {"C3"}
    assert say(site, contract, "C2", "art21_1", "rejected") == 5
    assert read(site, contract, features) == EVERYBODY
    say(site, contract, "C3", "art7_3", None, "retention")
    assert read(site, contract, features, "retention") == set()
    site.synchronise()
    with pytest.raises(ConflictError) as error:
        say(site, contract, "C4", "art21_1", "rejected")
    assert error.value.code == "opt_out.act_not_open"
    assert say(site, contract, "C4", "art21_1") == site.opt_outs.next_sequence() - 1


def test_a_file_that_was_taken_in_before_is_known_after(site, contract, features):
    """A consent that was withdrawn since must not come to life again."""
    path = site.settings.state_dir / "consents.csv"
    lines = [f"{name},marketing,web,2026-03-01T09:00:00Z" for name in ("C2", "C3")]
    path.write_text("\n".join(["identifier,purpose,channel,received_at", *lines]))
    assert intake.import_consents(site, contract, path).added == 2
    say(site, contract, "C2", "art7_3")
    rotate_key(site)
    again = intake.import_consents(site, contract, path)
    assert (again.added, again.known) == (0, 2)
    assert read(site, contract, features) == EVERYBODY - {"C2"}
    assert intake.import_consents(site, contract, path, dry_run=True).added == 0


def test_what_is_not_in_the_source_keeps_its_key_which_is_not_removed(
    federation, site, contract, features
):
    say(site, contract, "C2", "art21_2")
    say(site, contract, "C3", "art21_2")
    rows = pl.read_csv(site.settings.source, infer_schema=False)
    federation.units["north"].write_rows(rows.filter(pl.col("customer_id") != "C2"))
    rotate_key(site)
    found = reissue_events(site, contract)
    assert (found.carried, found.left) == (1, 1)
    with pytest.raises(ConflictError) as error:
        retire_key(site, 1)
    assert error.value.code == "pseudonym.key_needed"
    federation.units["north"].write_rows(rows)
    assert read(site, contract, features) == EVERYBODY - {"C2", "C3"}
    assert reissue_events(site, contract).left == 0
    retire_key(site, 1)
    assert not key_path(site.state.root, 1).exists()
    assert read(site, contract, features) == EVERYBODY - {"C2", "C3"}
    site.synchronise()
    assert read(site, contract, features) == EVERYBODY - {"C2", "C3"}


def test_nobody_is_read_while_a_key_that_opt_outs_need_is_not_listed(site, contract, features):
    listed = (site.state.root / LIST).read_bytes()
    rotate_key(site)
    say(site, contract, "C2", "art21_2")
    newest = (site.state.root / LIST).read_bytes()
    (site.state.root / LIST).write_bytes(listed)  # as in a backup from before
    for act in (lambda: read(site, contract, features), lambda: rotate_key(site)):
        with pytest.raises(InvalidRecordError) as error:
            act()
        assert error.value.code == "pseudonym.key_lost"
    (site.state.root / LIST).write_bytes(newest)
    assert read(site, contract, features) == EVERYBODY - {"C2"}
    assert rotate_key(site) == 3


def test_over_an_older_backup_no_key_is_made_anew_and_none_is_retired(
    tmp_path_factory, made_federation, opened, contract, features
):
    """Keys and opt-outs of one moment: the list fits the store, and both lack the newest key."""
    with made_federation(tmp_path_factory.mktemp("world")) as world:
        with opened(world) as site:
            say(site, contract, "C1", "art21_2")
            site.synchronise()
            root, backup = site.state.root, tmp_path_factory.mktemp("backup") / "state"
        shutil.copytree(root, backup)
        with opened(world) as site:
            rotate_key(site)
            reissue_events(site, contract)
            say(site, contract, "C2", "art21_2")
            site.synchronise()
        newest = root.rename(root.with_name("newest"))
        shutil.copytree(backup, root)
        with opened(world) as site:
            acts: list[Any] = [
                rotate_key,
                lambda site: retire_key(site, 1),
                lambda site: say(site, contract, "C1", "gpc"),
                lambda site: read(site, contract, features),
            ]
            for act in acts:
                with pytest.raises(InvalidRecordError) as error:
                    act(site)
                assert error.value.code == "pseudonym.key_lost"
        shutil.rmtree(root)
        newest.rename(root)
        with opened(world) as site:
            assert read(site, contract, features) == EVERYBODY - {"C1", "C2"}
            assert rotate_key(site) == 3


def test_a_rotation_moves_nobody(site, contract, features):
    """Who is drawn into a batch goes by the order of the Examples, which no key has a part in."""
    say(site, contract, "C2", "art21_2")
    before = examples(site, contract, features)
    for act in (
        rotate_key,
        lambda site: reissue_events(site, contract),
        lambda s: retire_key(s, 1),
    ):
        act(site)
        found = examples(site, contract, features)
        assert np.array_equal(found.features, before.features)
        assert np.array_equal(found.labels, before.labels)


def test_of_an_interrupted_re_issue_each_batch_is_there_whole(site, contract, features):
    for name in CUSTOMERS[:3]:
        say(site, contract, name, "art21_2")
    rotate_key(site)
    with pytest.raises(DataError):  # in the middle of a batch
        site.reissue(["C1", " "], contract)
    assert len(site.opt_outs.events()) == 3
    assert site.reissue(["C1", " c1 "], contract) == 1
    assert reissue_events(site, contract).carried == 2
    assert read(site, contract, features) == EVERYBODY - set(CUSTOMERS[:3])


STEPS = st.one_of(
    st.tuples(
        st.just("say"),
        st.sampled_from(("C1", "C2", "C99")),
        st.sampled_from(sorted(EFFECTS)),
        st.sampled_from((None, None, "withdrawn", "upheld", "rejected", "lifted", "consented")),
    ),
    st.sampled_from((("rotate",), ("reissue",), ("retire",), ("sync",))),
)


def step(site, contract, out, act, *details):
    """Do one step; `out` keeps, for each customer and ground, whether the last word excluded."""
    if act == "say":
        customer, ground, said = details
        try:
            say(site, contract, customer, ground, said)
        except (ConflictError, DataError):
            return
        out[customer, ground] = said in (None, "upheld")
    elif act == "retire":
        for version in load_ring(site.state.root).keys:
            try:
                retire_key(site, version)
            except ConflictError:
                continue
    else:
        acts: dict[str, Any] = {"rotate": rotate_key, "sync": lambda site: site.synchronise()}
        acts.get(act, lambda site: reissue_events(site, contract))(site)


@hypothesis_settings(max_examples=10, deadline=None)
@given(steps=st.lists(STEPS, max_size=12))
def test_nobody_who_is_excluded_is_ever_yielded_whatever_becomes_of_the_keys(
    tmp_path_factory, made_federation, opened, contract, features, steps
):
    """The site is opened anew for each step, as after a restart; C99 comes into the source last."""
    with made_federation(tmp_path_factory.mktemp("world")) as world:
        out: dict[tuple[str, str], bool] = {}
        for one in steps:
            with opened(world) as site:
                step(site, contract, out, *one)
                excluded = {customer for (customer, _), is_out in out.items() if is_out}
                assert read(site, contract, features) == EVERYBODY - excluded
        with opened(world) as site:
            maker, left_out = site.reading(contract, "marketing")
            found = {c: left_out(maker.pseudonym(c), *maker.former(c)) for c in ("C1", "C2", "C99")}
            assert found == {c: c in {n for (n, _), o in out.items() if o} for c in found}
            sequences = [event.sequence for event in site.opt_outs.events()]
            assert sequences == list(itertools.islice(itertools.count(1), len(sequences)))
            site.synchronise()


def test_governance_takes_no_re_issue_whose_heir_is_not_in_the_same_state(
    site, contract, federation
):
    """A node that would let somebody in again by a change of keys is refused."""
    say(site, contract, "C2", "art21_2")
    site.synchronise()
    former = site.opt_outs.events()[0]
    rotate_key(site)
    site.reissue(["C2"], contract)
    [carried_over] = site.opt_outs.pending()
    lied = former.model_copy(
        update={"sequence": 2, "act": "reissued", "successor": f"{7:064x}", "channel": "rotation"}
    )
    with runtime.SEAM.bound(federation.surroundings):
        gateway = open_gateway(site.settings)
    with pytest.raises(ConflictError) as error:
        gateway.submit_opt_out(sign_record(lied, site.key, site.settings.realm))
    assert error.value.code == "opt_out.act_not_open"
    gateway.submit_opt_outs(carried_over)
    assert site.synchronise().last_sequence == 3
