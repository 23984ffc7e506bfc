"""How opt-outs act, asked of the real service."""

from contextlib import nullcontext
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner

from fedcore import cli, gateway_http
from fedcore.errors import MismatchError, NotFoundError

# The transactions' own, the API key, the unit, hand-overs, and nine of the list's.
MOST = 16


def hand_over(world, sequence, unit="north", **changes):
    event = world.opt_out(unit, sequence, **changes)
    world.gateway().submit_opt_out(world.sign(event, unit))
    return event


def straddle(world, give):
    permit = world.permit()
    first = world.round(permit, 1, None)
    world.clock.tick(minutes=10)
    received_at = world.clock.now
    world.clock.tick(minutes=5)
    hand_over(world, 1, received_at=received_at)
    world.clock.tick(minutes=5)
    world.round(permit, 2, first)
    world.gateway("operator").register_model("run-1", "churn", give("model_bytes"))


BEGINNINGS = {"straddled": straddle}


@pytest.fixture
def straddled(world):
    """A run with an opt-out between its two rounds, which has become a model."""
    return world


def test_an_opt_out_says_since_when_it_acts_and_what_was_trained_before(straddled):
    status = straddled.gateway("dpo").fetch_opt_out("north", 1)
    assert status.sentence == (
        "excluded from training since round 2 of run run-1; "
        "scoring outside fedpact is the unit's duty"
    )
    assert (status.enforced_since.round, status.lag_s, status.within_sla) == (2, 600, True)
    assert (status.recorded_at - status.received_at).total_seconds() == 300
    [model] = status.trained_before
    assert (model.name, model.version, model.run_id, model.rounds) == ("churn", 1, "run-1", 1)


def test_without_a_later_run_nothing_is_claimed_and_the_wait_is_held_against_the_sla(straddled):
    straddled.clock.tick(minutes=1)
    hand_over(straddled, 2)
    straddled.clock.tick(hours=24)
    waiting = straddled.gateway("auditor").fetch_opt_out("north", 2)
    assert waiting.sentence.startswith("no training since;")
    assert (waiting.confirmed_at, waiting.enforced_since) == (None, None)
    assert (waiting.lag_s, waiting.sla_s, waiting.within_sla) == (86_400, 86_400, True)
    straddled.clock.tick(seconds=1)
    assert not straddled.gateway("auditor").fetch_opt_out("north", 2).within_sla
    straddled.bulletin("north")
    straddled.clock.tick(hours=5)
    assert straddled.gateway("auditor").fetch_opt_out("north", 2).lag_s == 86_401


def test_the_unit_s_own_sla_of_the_notices_counts(make_world, ready, tmp_path):
    path = tmp_path / "notices.toml"
    path.write_text("opt_out_sla_hours = 2\n")
    world = make_world(ready, notices=path)
    hand_over(world, 1)
    assert world.gateway("dpo").fetch_opt_out("north", 1).sla_s == 7200


def test_one_who_is_in_again_is_not_said_to_be_out(straddled):
    first = straddled.opt_out("north", 1)
    hand_over(straddled, 2, pseudonym=first.pseudonym, act="withdrawn")
    for sequence in (1, 2):
        status = straddled.gateway("dpo").fetch_opt_out("north", sequence)
        assert (status.newest, status.state, status.excludes) == (2, "withdrawn", False)
        assert status.sentence.startswith("excludes nobody now (withdrawn);")
        assert status.trained_before == ()


def test_nobody_is_named_and_nothing_of_another_unit_is_shown(straddled):
    south = hand_over(straddled, 1, unit="south")
    pseudonym = straddled.opt_out("north", 1).pseudonym
    shown = str(straddled.get("/v1/opt-outs/north", "unit_operator"))
    assert "excluded from training" in shown
    assert not [word for word in (pseudonym, south.pseudonym, "south") if word in shown]
    with pytest.raises(NotFoundError, match=r"unit\.unknown"):
        straddled.gateway("unit_operator").list_opt_outs("south")
    with pytest.raises(NotFoundError, match=r"opt_out\.unknown"):
        straddled.gateway("unit_operator").fetch_opt_out("north", 2)


@pytest.mark.databases
def test_a_list_comes_in_parts_and_costs_the_same_for_many_as_for_few(straddled, counted):
    with counted() as few:
        straddled.get("/v1/opt-outs/north", "dpo")
    for sequence in range(2, 8):
        hand_over(straddled, sequence)
    straddled.run("run-2")
    with counted() as many:
        whole = straddled.get("/v1/opt-outs/north", "dpo")["opt_outs"]
    assert len(many) == len(few) <= MOST, many
    assert [item["sequence"] for item in whole] == list(range(1, 8))
    headers = {"Authorization": f"Bearer {straddled.api_keys['dpo']}"}
    part = straddled.client.get("/v1/opt-outs/north?limit=3", headers=headers)
    following = straddled.client.get(part.links["next"]["url"], headers=headers)
    assert part.json()["opt_outs"] + following.json()["opt_outs"] == whole[:6]


@pytest.mark.databases
def test_the_command_says_the_same_of_one_and_of_all(straddled, monkeypatch, tmp_path):
    key = tmp_path / "dora.key"
    key.write_text(straddled.api_keys["dpo"])
    key.chmod(0o600)
    # Only the network is replaced.
    monkeypatch.setattr(gateway_http, "open_client", lambda *_: nullcontext(straddled.client))
    hand_over(straddled, 2)

    def said(*options):
        entry = EntryPoint("governance", "governance.cli:app [governance]", cli.COMMANDS_GROUP)
        line = ["--url", "http://127.0.0.1:1", "--api-key-file", str(key)]
        words = ["governance", "opt-outs", "status", "north", *options, *line]
        result = CliRunner().invoke(cli.RootCommand({"governance": entry}), words)
        return result.exit_code, result.output

    code, one = said("--sequence", "1")
    assert code == 0
    assert "excluded from training since round 2 of run run-1; scoring outside fedpact" in one
    assert "0.2 h of 24 h, in time" in one
    assert "trained before: churn 1, in 1 exchanges of run run-1" in one
    code, both = said()
    assert (code, one in both, "north 2: marketing, art21_2" in both) == (0, True, True)
    assert "held by no bulletin yet" in both
    code, output = said("--sequence", "9")
    assert (code, "opt_out.unknown" in output) == (1, True)


def carry_over(world, said, sequence, key_version):
    """Hand over what carries an event over to the next key. Returns: the event that repeats it."""
    pseudonym = f"{key_version:064x}"
    keyed = {"sequence": sequence, "pseudonym": pseudonym, "key_version": key_version}
    repeat = said.model_copy(update={**keyed, "repeats": said.repeats or said.sequence})
    end = {"sequence": sequence + 1, "act": "reissued", "successor": pseudonym}
    end |= {"repeats": repeat.repeats, "channel": "rotation", "received_at": world.clock.now}
    for event in (repeat, said.model_copy(update=end)):
        world.gateway().submit_opt_out(world.sign(event, "north"))
    return repeat


def test_an_opt_out_under_another_key_keeps_its_first_time_and_its_enforcement(straddled, counted):
    """Two changes of keys on, whichever of its numbers is asked about."""
    waited = straddled.gateway("dpo").fetch_opt_out("north", 1)
    first = straddled.opt_out("north", 1, received_at=waited.received_at)
    straddled.clock.tick(hours=72)
    again = carry_over(straddled, first, 2, 2)
    straddled.clock.tick(hours=72)
    carry_over(straddled, again, 4, 3)
    assert straddled.gateway("dpo").fetch_opt_out("north", 1) == waited
    with counted() as queries:
        whole = straddled.gateway("dpo").list_opt_outs("north")
    assert len(queries) <= MOST + 5, queries
    assert [status.newest for status in whole] == [1] * 5
    assert [status.enforced_since for status in whole] == [waited.enforced_since] * 5
    assert [status.trained_before for status in whole] == [waited.trained_before] * 5
    for repeat in (whole[1], whole[3]):
        assert (repeat.received_at, repeat.lag_s) == (waited.received_at, waited.lag_s)
    hand_over(straddled, 6, pseudonym=f"{3:064x}", key_version=3, act="withdrawn")
    for sequence in (1, 2, 4, 5, 6):
        status = straddled.gateway("dpo").fetch_opt_out("north", sequence)
        assert (status.newest, status.state) == (6, "withdrawn")


@pytest.mark.parametrize(
    "lie", [{"purpose": "churn-prediction"}, {"channel": "mail"}, {"repeats": 2}], ids=str
)
def test_an_event_that_repeats_another_one_than_it_says_is_refused(straddled, lie):
    """Else a later objection would borrow the time of an earlier one."""
    received_at = straddled.gateway("dpo").fetch_opt_out("north", 1).received_at
    hand_over(straddled, 2)
    same = {"received_at": received_at, "repeats": 1}
    with pytest.raises(MismatchError, match=r"opt_out\.repeat_differs"):
        hand_over(straddled, 3, **(same | lie))
    with pytest.raises(MismatchError, match=r"opt_out\.repeat_differs"):
        hand_over(straddled, 3, repeats=1)
    hand_over(straddled, 3, **same)
