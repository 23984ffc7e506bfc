"""Opt-outs of a group of units, between two real nodes and a real governance."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients import runtime
from clients.doctor.bulletins import check_bulletin
from clients.doctor.findings import Circumstances
from clients.group_keys import create_group_key, join_group
from clients.rotation import reissue_events, retire_key, rotate_key
from clients.settings import NodeSettings
from clients.state import StateDir
from clients.status import load_bulletin
from clients.subject_reports import make_report
from fedcore.bulletins import Bulletin
from fedcore.errors import ConflictError, DataError, FedError
from fedcore.group_opt_outs import GroupOptOut, sealed
from fedcore.record import Realm
from fedcore.signing import Envelope, SigningKey, sign_record

CUSTOMERS = [f"C{number}" for number in range(1, 9)]
EVERYBODY = set(CUSTOMERS)
UNITS = ("north", "south")


def code_of(act):
    with pytest.raises(FedError) as error:
        act()
    return error.value.code


def test_what_one_unit_is_told_acts_at_the_other_until_it_is_taken_back_there(pair):
    assert pair.say("north", " c2 ") == 1
    assert (pair.read("north"), pair.read("south")) == (EVERYBODY - {"C2"}, EVERYBODY)
    pair.sync("north")
    pair.sync("south")
    assert pair.read("south") == EVERYBODY - {"C2"}
    assert code_of(lambda: pair.say("south", "C2", "withdrawn")) == "opt_out.act_not_open"
    pair.say("south", "C2")
    pair.say("north", "C2", "withdrawn")
    for unit in (*UNITS, *UNITS):
        pair.sync(unit)
    assert (pair.read("north"), pair.read("south")) == (EVERYBODY - {"C2"},) * 2
    pair.say("south", "C2", "withdrawn")
    for unit in (*UNITS, *UNITS):
        pair.sync(unit)
    assert (pair.read("north"), pair.read("south")) == (EVERYBODY, EVERYBODY)


def test_another_unit_s_contract_and_keys_name_nobody(pair):
    """Three keys, three pseudonyms: governance cannot link what it holds, nor unit to unit."""
    pair.say("north", "C2")
    with pair.site("north") as north, pair.site("south") as south:
        [event] = north.group.events(north.group_part())
        own = {site.pseudonymiser(pair.contract).pseudonym("C2") for site in (north, south)}
        assert len({event.pseudonym, *own}) == 3
        assert north.opt_outs.events() == []


def test_a_unit_without_the_group_s_key_gets_no_bulletin(apart):
    apart.join("north")
    apart.declare()
    apart.sync("north")
    assert code_of(lambda: apart.sync("south")) == "group.not_joined"
    apart.join("south")
    apart.sync("south")
    assert apart.read("south") == EVERYBODY


def test_a_unit_that_joined_before_there_was_a_group_goes_on(apart):
    apart.join(*UNITS)
    apart.sync("north")
    assert apart.read("north") == EVERYBODY
    assert code_of(lambda: apart.say("north", "C2")) == "group.unknown"
    apart.declare()
    apart.sync("north")
    assert apart.say("north", "C2") == 1


def test_with_another_key_than_the_group_s_nobody_is_read(apart, pair):
    state = StateDir(pair.world.units["south"].state_dir)
    state.group_key.rename(state.root / "aside")
    assert code_of(lambda: pair.read("south")) == "group.key_lost"
    assert code_of(lambda: pair.sync("south")) == "group.not_joined"
    other = state.root / "other.key"
    create_group_key(other)
    join_group(state, other)
    assert code_of(lambda: pair.read("south")) == "group.key_other"
    assert code_of(lambda: pair.sync("south")) == "group.key_other"
    assert code_of(lambda: join_group(state, pair.key)) == "group.key_present"
    state.group_key.unlink()
    pair.join("south")
    assert pair.read("south") == EVERYBODY


def test_without_what_the_newest_bulletin_shows_nobody_is_read_until_it_is_fetched_again(pair):
    pair.say("north", "C2")
    pair.sync("north")
    pair.sync("south")
    for unit in UNITS:
        state = StateDir(pair.world.units[unit].state_dir)
        for path in state.root.glob("group.db*"):
            path.unlink()
        assert code_of(lambda unit=unit: pair.read(unit)) == "group.withheld"
        pair.sync(unit)
        assert pair.read(unit) == EVERYBODY - {"C2"}
    assert pair.say("north", "C3") == 2


def test_many_come_in_parts(pair, monkeypatch):
    monkeypatch.setattr("governance.opt_out_groups.MAX_EVENTS", 2)
    for customer in CUSTOMERS[:5]:
        pair.say("north", customer)
    pair.say("south", "C8")
    for unit in (*UNITS, "north"):
        pair.sync(unit)
    expected = EVERYBODY - {*CUSTOMERS[:5], "C8"}
    assert (pair.read("north"), pair.read("south")) == (expected, expected)


@pytest.mark.parametrize("ground", ["art21_1", "art17", "art7_3"])
def test_for_a_group_there_are_the_grounds_on_which_no_unit_decides(pair, ground):
    with pytest.raises(DataError) as error:
        pair.say("north", "C2", ground=ground)
    assert error.value.code == "opt_out.ground_not_of_groups"
    assert pair.say("north", "C2", ground="gpc") == 1


class Liar:
    """A governance that changes the group's part of each bulletin, and signs it anew."""

    def __init__(self, gateway, key, change):
        self._gateway, self._key, self._change = gateway, key, change

    def __getattr__(self, name):
        return getattr(self._gateway, name)

    def sync_bulletin(self, request):
        told = Bulletin.from_bytes(self._gateway.sync_bulletin(request).payload_bytes)
        lied = told.model_copy(update={"group": self._change(told.group)})
        return sign_record(lied, self._key, told.realm)


FORGER = SigningKey.generate()


def forged(part, **changes):
    """The first opt-out as governance could sign it, by a key that it says is north's."""
    event = GroupOptOut.from_bytes(part.events[0].payload_bytes).model_copy(update=changes)
    sources = tuple(
        source.model_copy(update={"node_keys": (*source.node_keys, FORGER.public)})
        if source.unit == "north"
        else source
        for source in part.sources
    )
    envelope = sign_record(event, FORGER, Realm.SIMULATION)
    return part.model_copy(update={"sources": sources, "events": (envelope, *part.events[1:])})


FIRST: list[Envelope] = []


def again(part):
    """Every bulletin brings the first one that there was, and says that there are more."""
    FIRST[:] = FIRST or part.events[:1]
    return part.model_copy(update={"events": tuple(FIRST)})


def shorter(part):
    sources = [source.model_copy(update={"last_sequence": 0}) for source in part.sources]
    return part.model_copy(update={"sources": tuple(sources), "events": ()})


LIES = {
    "a gap": (
        lambda part: part.model_copy(update={"events": part.events[1:]}),
        "opt_out.sequence_gap",
    ),
    "the newest left out": (
        lambda part: part.model_copy(update={"events": part.events[:-1]}),
        "group.withheld",
    ),
    "none": (lambda part: part.model_copy(update={"events": ()}), "group.withheld"),
    "the order": (
        lambda part: part.model_copy(update={"events": part.events[::-1]}),
        "opt_out.sequence_gap",
    ),
    "a withdrawal made up": (lambda part: forged(part, act="withdrawn"), "group.unsealed"),
    "another customer": (lambda part: forged(part, pseudonym="ab" * 32), "group.unsealed"),
    "another unit's": (lambda part: forged(part, unit="south"), "group.other_group"),
    "the first again and again": (again, "group.withheld"),
    "no group": (lambda _: None, "group.withheld"),
    "fewer than before": (shorter, "bulletin.rollback"),
    "another key": (
        lambda part: part.model_copy(update={"key_check": "0" * 64}),
        "group.other_group",
    ),
    "another rule's": (
        lambda part: part.model_copy(update={"group": "other"}),
        "group.other_group",
    ),
    "a unit less": (
        lambda part: part.model_copy(update={"sources": part.sources[1:]}),
        "bulletin.rollback",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_of_governance_about_the_group_is_caught_and_changes_nothing(pair, name):
    """South holds one opt-out of north's; two more are on their way."""
    pair.say("north", "C1")
    pair.sync("north")
    pair.sync("south")
    for customer in ("C2", "C3", "C4"):
        pair.say("north", customer)
    pair.sync("north")
    change, code = LIES[name]
    FIRST.clear()
    honest = pair.world.surroundings

    def lying(settings):
        return Liar(honest.gateway(settings), pair.world.governance_key, change)

    pair.world.surroundings = runtime.Runtime(honest.clock, honest.noise, lying)
    assert code_of(lambda: pair.sync("south")) == code
    assert pair.read("south") <= EVERYBODY - {"C1"}
    pair.world.surroundings = honest
    pair.sync("south")
    assert pair.read("south") == EVERYBODY - {"C1", "C2", "C3", "C4"}


def test_a_unit_that_lost_its_bulletin_takes_none_that_forgets_the_group(pair):
    pair.say("north", "C1")
    pair.sync("north")
    pair.sync("south")
    for path in StateDir(pair.world.units["south"].state_dir).root.glob("bulletin.db*"):
        path.unlink()
    honest = pair.world.surroundings

    def lying(settings):
        return Liar(honest.gateway(settings), pair.world.governance_key, lambda _: None)

    pair.world.surroundings = runtime.Runtime(honest.clock, honest.noise, lying)
    assert code_of(lambda: pair.sync("south")) == "group.withheld"
    pair.world.surroundings = honest
    pair.sync("south")
    assert pair.read("south") == EVERYBODY - {"C1"}


def test_a_customer_who_asks_is_told_what_was_said_for_the_group(pair):
    pair.say("north", "C2")
    pair.sync("north")
    pair.sync("south")
    for unit in UNITS:
        with pair.site(unit) as site:
            site.contract(pair.contract.digest)  # kept, as by the operator's check
        settings = NodeSettings.load(pair.world.units[unit].settings)
        with runtime.SEAM.bound(pair.world.surroundings):
            asked = [make_report(settings, name, pair.world.clock.now()) for name in ("C2", "C3")]
        told = [[(w.unit, w.sequence, w.purpose) for w in one.group_words] for one in asked]
        assert told == [[("north", 1, "marketing")], []]


def test_what_governance_has_not_heard_of_is_counted_until_it_has(pair):
    def waiting(unit):
        settings, clock = NodeSettings.load(pair.world.units[unit].settings), pair.world.clock
        view = load_bulletin(settings, clock)
        found = Circumstances(settings, clock)
        said = [one.sentence for one in check_bulletin(found) if "not heard of" in one.sentence]
        return (view.waiting_opt_outs if view else None), [sentence.split()[0] for sentence in said]

    pair.say("north", "C2")
    assert (waiting("north"), waiting("south")) == ((1, ["1"]), (0, []))
    pair.sync("north")
    assert waiting("north") == (0, [])


def test_nobody_without_the_key_makes_a_seal(pair):
    pair.say("north", "C2")
    with pair.site("north") as site:
        [event] = site.group.events(site.group_part())
        assert sealed(event, site.group.key) == event
        assert sealed(event, bytes(32)).seal != event.seal


STEPS = st.tuples(
    st.sampled_from(UNITS),
    st.one_of(
        st.tuples(
            st.just("say"), st.sampled_from(("C1", "C2")), st.sampled_from((None, "withdrawn"))
        ),
        st.tuples(st.just("own"), st.sampled_from(("C1", "C3"))),
        st.sampled_from((("sync",), ("rotate",), ("reissue",), ("retire",))),
    ),
)


class Expected:
    """Who must be out where: what a unit was told at once, another's when both have synced."""

    def __init__(self):
        self.told: dict[str, list[tuple[str, str | None]]] = {unit: [] for unit in UNITS}
        self.handed = dict.fromkeys(UNITS, 0)
        self.known = {unit: dict.fromkeys(UNITS, 0) for unit in UNITS}
        self.own: dict[str, set[str]] = {unit: set() for unit in UNITS}

    def sync(self, unit):
        self.handed[unit] = len(self.told[unit])
        self.known[unit] |= {u: max(n, self.known[unit][u]) for u, n in self.handed.items()}

    def out(self, unit):
        out = set(self.own[unit])
        for source in UNITS:
            count = len(self.told[unit]) if source == unit else self.known[unit][source]
            standing = dict(self.told[source][:count])
            out |= {customer for customer, act in standing.items() if act is None}
        return out


def act_on(pair, expected, unit, name, *details):
    if name == "say":
        try:
            pair.say(unit, *details)
        except ConflictError:
            return
        expected.told[unit].append(details)
    elif name == "sync":
        pair.sync(unit)
        expected.sync(unit)
    else:
        with pair.site(unit) as site:
            if name == "own":
                site.opt_out(*details, "marketing", pair.contract, "art21_2")
                expected.own[unit] |= set(details)
            elif name == "reissue":
                reissue_events(site, pair.contract)
            else:  # both look first what governance has of the unit
                rotate_key(site) if name == "rotate" else retire_all(site)
                expected.sync(unit)


def retire_all(site):
    for version in list(site.state.pseudonym_keys().keys):
        try:
            retire_key(site, version)
        except ConflictError:
            continue


@pytest.mark.slow
@hypothesis_settings(max_examples=12, deadline=None)
@given(steps=st.lists(STEPS, min_size=4, max_size=14))
def test_nobody_who_is_excluded_is_ever_yielded_at_any_unit_in_any_scope(
    tmp_path_factory, opened_pair, steps
):
    """Sites are opened anew for each act, as after a restart; keys change at either unit."""
    with opened_pair(tmp_path_factory.mktemp("pair")) as pair:
        expected = Expected()
        pair.join(*UNITS)
        pair.declare()
        for unit in UNITS:
            pair.sync(unit)
        for unit, (name, *details) in steps:
            act_on(pair, expected, unit, name, *details)
            for each in UNITS:
                assert pair.read(each) == EVERYBODY - expected.out(each)
        for unit in (*UNITS, *UNITS):
            pair.sync(unit)
            expected.sync(unit)
        for unit in UNITS:
            assert pair.read(unit) == EVERYBODY - expected.out(unit)
