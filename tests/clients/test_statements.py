"""Statements of customers, and what the one reader yields after them, against a real governance."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients import intake
from clients.data import Inputs, load_examples
from clients.sources import source_of
from clients.statements import Statement, parse_ground, parse_time, verify_statement
from fedcore import opt_out_history
from fedcore.errors import ConflictError, DataError
from fedcore.optouts import EFFECTS

CUSTOMERS = [f"C{number}" for number in range(1, 9)]


def read(site, contract, features, purpose="marketing"):
    """The customers whom the reader yields for a purpose, told by their rows' order."""
    examples = load_examples(
        source_of(site.settings),
        contract,
        Inputs(features),
        site.pseudonymiser(contract),
        site.opt_outs.left_out(contract, purpose),
        site.runtime.clock.now().date(),
    )
    is_out = site.opt_outs.left_out(contract, purpose)
    pseudonym = site.pseudonymiser(contract).pseudonym
    inside = {customer for customer in CUSTOMERS if not is_out(pseudonym(customer))}
    assert len(examples.labels) == len(inside)
    return inside


def say(site, contract, customer, ground, act=None, purpose="marketing", **more):
    reason: Any = "legal_claims" if act == "rejected" else None
    said = Statement(customer, purpose, ground, act=act, reason=reason, **more)
    return site.take_in([said], contract)[0]


# What the reader yields


@pytest.mark.parametrize(
    ("ground", "act"),
    [
        ("art21_2", "withdrawn"),
        ("art21_1", "withdrawn"),
        ("art21_1", "rejected"),
        ("art7_3", "consented"),
        ("art17", "withdrawn"),
        ("art18", "lifted"),
        ("art18", "withdrawn"),
        ("ccpa_120", "withdrawn"),
        ("gpc", "withdrawn"),
    ],
)
def test_an_objection_excludes_at_once_until_the_act_that_its_ground_names(
    site, contract, features, ground, act
):
    everybody = read(site, contract, features)
    assert everybody == set(CUSTOMERS)
    say(site, contract, "C2", ground)
    assert read(site, contract, features) == everybody - {"C2"}
    site.synchronise()
    assert read(site, contract, features) == everybody - {"C2"}
    say(site, contract, "C2", ground, act)
    assert read(site, contract, features) == everybody
    assert site.synchronise().last_sequence == 2
    assert read(site, contract, features) == everybody


@pytest.mark.parametrize(("ground", "act"), [("art21_1", "upheld"), ("art17", "erased")])
def test_an_act_that_ends_the_matter_leaves_the_customer_out(
    federation, site, contract, features, ground, act
):
    rows = pl.read_csv(site.settings.source, infer_schema=False)
    say(site, contract, "C2", ground)
    if act == "erased":
        federation.units["north"].write_rows(rows.filter(pl.col("customer_id") != "C2"))
    say(site, contract, "C2", ground, act)
    federation.units["north"].write_rows(rows)
    assert read(site, contract, features) == set(CUSTOMERS) - {"C2"}
    site.synchronise()
    assert read(site, contract, features) == set(CUSTOMERS) - {"C2"}


def test_an_erasure_is_confirmed_only_when_the_row_is_gone(federation, site, contract):
    say(site, contract, "C2", "art17")
    with pytest.raises(DataError) as error:
        say(site, contract, " c2 ", "art17", "erased")
    assert error.value.code == "opt_out.still_in_source"
    rows = pl.read_csv(site.settings.source, infer_schema=False)
    federation.units["north"].write_rows(rows.filter(pl.col("customer_id") != "C2"))
    assert say(site, contract, " c2 ", "art17", "erased") == 2


def test_an_erasure_is_not_confirmed_against_a_source_with_lines_that_nobody_can_read(
    site, contract
):
    say(site, contract, "C99", "art17")
    sound = site.settings.source.read_text()
    site.settings.source.write_text(sound + '"C99,1\n')
    with pytest.raises(DataError) as error:
        say(site, contract, "C99", "art17", "erased")
    assert error.value.code == "data.contract_broken"
    site.settings.source.write_text(sound)
    assert say(site, contract, "C99", "art17", "erased") == 2


def test_a_restriction_of_one_purpose_restricts_all(site, contract, features):
    say(site, contract, "C2", "art18", purpose="analytics")
    say(site, contract, "C3", "art21_2", purpose="analytics")
    assert read(site, contract, features) == set(CUSTOMERS) - {"C2"}


def test_where_the_basis_is_consent_only_those_who_consent_are_read(site, contract, features):
    assert read(site, contract, features, "analytics") == set()
    for customer in ("C2", "C3", "C4"):
        say(site, contract, customer, "art7_3", "consented", "analytics")
    assert read(site, contract, features, "analytics") == {"C2", "C3", "C4"}
    say(site, contract, "C3", "art7_3", None, "analytics")
    assert read(site, contract, features, "analytics") == {"C2", "C4"}
    say(site, contract, "C2", "art21_2", None, "analytics")
    assert read(site, contract, features, "analytics") == {"C4"}
    say(site, contract, "C3", "art7_3", "consented", "analytics")
    assert read(site, contract, features, "analytics") == {"C3", "C4"}


def test_a_node_trains_only_on_those_who_consent_to_the_plans_purpose(federation, contract, plan):
    """The plan's purpose, `retention`, rests on consent."""
    with federation.units["north"].node() as node:
        assert len(node.examples(plan).labels) == 0
        for customer in ("C2", "C3"):
            say(node, contract, customer, "art7_3", "consented", "retention")
        assert len(node.examples(plan).labels) == 2
        say(node, contract, "C3", "art18", None, "analytics")
        assert len(node.examples(plan).labels) == 1


def test_a_consent_to_a_purpose_is_none_to_those_above_or_below(site, contract, features):
    """`retention`, below `marketing`, rests on consent."""
    say(site, contract, "C2", "art7_3", "consented", "marketing")
    assert read(site, contract, features, "retention") == set()
    say(site, contract, "C2", "art7_3", "consented", "retention")
    assert read(site, contract, features, "retention") == {"C2"}
    say(site, contract, "C2", "art7_3", None, "marketing")
    assert read(site, contract, features, "retention") == set()


def test_a_consent_does_not_lift_an_objection(site, contract, features):
    say(site, contract, "C2", "art21_2")
    say(site, contract, "C2", "art7_3", "consented")
    assert read(site, contract, features) == set(CUSTOMERS) - {"C2"}


def test_an_act_that_is_not_open_changes_nothing(site, contract, features):
    say(site, contract, "C2", "art21_2")
    for ground, act in (("art21_1", "withdrawn"), ("art18", "lifted")):
        with pytest.raises(ConflictError) as error:
            say(site, contract, "C2", ground, act)
        assert error.value.code == "opt_out.act_not_open"
    assert len(site.opt_outs.events()) == 1
    assert say(site, contract, "C2", "art21_2", "withdrawn") == 2


def test_of_several_statements_all_are_taken_in_or_none(site, contract):
    sound = Statement("C1", "marketing", "art21_2")
    with pytest.raises(ConflictError):
        site.take_in([sound, Statement("C2", "marketing", "art21_2", act="withdrawn")], contract)
    assert site.opt_outs.events() == []
    taken = [sound, Statement("C1", "marketing", "art21_2", act="withdrawn")]
    assert site.take_in(taken, contract) == [1, 2]


ACTS = st.one_of(
    st.tuples(
        st.just("say"),
        st.sampled_from(("C1", "C2")),
        st.sampled_from(sorted(EFFECTS)),
        st.sampled_from((None, None, "withdrawn", "upheld", "rejected", "lifted", "consented")),
    ),
    st.tuples(
        st.just("say of both"),
        st.sampled_from(sorted(EFFECTS)),
        st.sampled_from((None, "withdrawn", "upheld", "rejected", "consented")),
    ),
    st.tuples(st.just("import"), st.lists(st.sampled_from(("C1", "C2")), max_size=3)),
    st.sampled_from(
        (("sync",), ("sync",), ("lose governance",), ("find governance",), ("lose store",))
    ),
)


class Story:
    """A unit that lives through acts, and an oracle that keeps, for each customer and ground, only
    whether the last word excluded them; and the same as it was when governance was last told.
    """

    def __init__(self, world, contract):
        self.world, self.contract = world, contract
        self.out: dict[tuple[str, str], bool] = {}
        self.imported: set[str] = set()
        self.told = dict(self.out), set(self.imported)

    def excluded(self):
        return {customer for (customer, _), excluded in self.out.items() if excluded}

    def do(self, site, act, *details):
        acts: dict[str, Any] = {
            "say": self.say,
            "import": self.import_,
            "say of both": self.say_of_both,
            "sync": self.sync,
            "lose store": self.take_back,
            "lose governance": lambda site: setattr(self.world, "cut_off", True),
            "find governance": lambda site: setattr(self.world, "cut_off", False),
        }
        acts[act](site, *details)

    def say(self, site, customer, ground, act):
        try:
            say(site, self.contract, customer, ground, act)
        except (ConflictError, DataError):
            return
        self.out[customer, ground] = act in (None, "upheld")

    def say_of_both(self, site, ground, act):
        """In one batch, which is taken in whole or not at all."""
        reason: Any = "legal_claims" if act == "rejected" else None
        said = [
            Statement(name, "marketing", parse_ground(ground), act=act, reason=reason)
            for name in ("C1", "C2")
        ]
        try:
            site.take_in(said, self.contract)
        except (ConflictError, DataError):
            return
        self.out |= {(name, ground): act in (None, "upheld") for name in ("C1", "C2")}

    def sync(self, site):
        if not self.world.cut_off:
            site.synchronise()
            self.told = dict(self.out), set(self.imported)

    def take_back(self, site):
        """A lost store comes back from governance as it was when that was last told."""
        assert site.opt_outs.events() == []
        self.world.cut_off = False
        site.synchronise()
        self.out, self.imported = dict(self.told[0]), set(self.told[1])

    def import_(self, site, customers):
        lines = [f"{customer},marketing,web,gpc,2026-03-01T09:00:00Z" for customer in customers]
        path = site.settings.state_dir / "import.csv"
        path.write_text("\n".join(["identifier,purpose,channel,ground,received_at", *lines]))
        intake.import_objections(site, self.contract, path)
        self.out |= {(name, "gpc"): True for name in set(customers) - self.imported}
        self.imported |= set(customers)


@hypothesis_settings(max_examples=15, deadline=None)
@given(acts=st.lists(ACTS, max_size=12))
def test_nobody_who_is_excluded_is_ever_yielded(
    tmp_path_factory, made_federation, opened, contract, features, acts
):
    """The site is opened anew for each act, as after a restart; history comes a document at a time,
    so that it has many parts.
    """
    root = tmp_path_factory.mktemp("world")
    with made_federation(root) as world, pytest.MonkeyPatch.context() as patch:
        patch.setattr(opt_out_history, "PART_BYTES", 1)
        story = Story(world, contract)
        for act in acts:
            if act == ("lose store",):
                for path in root.glob("units/north/**/bulletin.db*"):
                    path.unlink()
            with opened(world) as site:
                story.do(site, *act)
                excluded = story.excluded()
                assert read(site, contract, features) == set(CUSTOMERS) - excluded
                assert not read(site, contract, features, "retention") & excluded


# What is refused before it becomes an event


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"identifier": "  "}, "data.subject_missing"),
        ({"identifier": "17.0"}, "opt_out.identifier_decimal"),
        ({"identifier": " 1,7E+5"}, "opt_out.identifier_decimal"),
        ({"purpose": "baking"}, "opt_out.purpose_unknown"),
        ({"channel": "the shop"}, "opt_out.channel_invalid"),
        ({"identifier": "Jane.D", "channel": "mail-of-jane_d"}, "opt_out.channel_personal"),
        ({"identifier": "K-007", "channel": "k007"}, "opt_out.channel_personal"),
        ({"act": "lifted"}, "opt_out.act_not_open"),
        ({"ground": "art21_1", "act": "rejected"}, "opt_out.reason_missing"),
        ({"reason": "legal_claims"}, "opt_out.reason_missing"),
        ({"received_at": datetime(2026, 3, 2, 9, 0, 1, tzinfo=UTC)}, "opt_out.from_future"),
    ],
)
def test_a_statement_that_would_match_nobody_or_say_nothing_is_refused(
    contract, start, changes, code
):
    values: dict[str, Any] = {"identifier": "C-1", "purpose": "marketing", "ground": "art21_2"}
    verify_statement(Statement(**values), contract, start)
    verify_statement(
        Statement(**{**values, "identifier": "Jane.D"}, channel="mail"), contract, start
    )
    with pytest.raises(DataError) as error:
        verify_statement(Statement(**{**values, **changes}), contract, start)
    assert error.value.code == code
    assert "C-1" not in error.value.public


def test_a_statement_of_now_is_none_of_the_future(contract, start):
    for moment in (None, start, start - timedelta(days=900)):
        verify_statement(
            Statement("C1", "marketing", "art21_2", received_at=moment), contract, start
        )


def test_a_ground_is_one_of_the_table():
    assert [parse_ground(name) for name in EFFECTS] == list(EFFECTS)
    with pytest.raises(DataError) as error:
        parse_ground("art6")
    assert error.value.code == "opt_out.ground_unknown"


def test_a_time_has_a_zone():
    expected = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    for text in ("2026-03-02T09:00:00Z", "2026-03-02 10:00:00+01:00"):
        assert parse_time(text) == expected
    for text in ("2026-03-02T09:00:00", "yesterday", "", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(DataError) as error:
            parse_time(text)
        assert error.value.code == "opt_out.time_invalid"
