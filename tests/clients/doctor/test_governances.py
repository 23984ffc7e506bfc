from clients.doctor.governances import check_governance
from fedcore.errors import UnreachableError
from fedcore.record import Realm


def test_a_governance_of_the_realm_and_key_of_the_settings_is_the_nodes(found):
    (finding,) = check_governance(found())
    assert finding.outcome == "ok"


def test_a_governance_that_does_not_answer_does_not_keep_a_node_from_starting(found):
    (finding,) = check_governance(found(UnreachableError("governance.unreachable", "It is down.")))
    assert (finding.code, finding.outcome) == ("governance.unreachable", "failure")
    assert not finding.blocks


def test_a_governance_of_another_realm_is_a_failure(found, about):
    other = about.model_copy(update={"realm": Realm.SIMULATION})
    (finding,) = check_governance(found(other))
    assert (finding.code, finding.blocks) == ("document.other_realm", True)


def test_another_key_is_named_with_both_ways_in_which_it_comes_about(found, about):
    other = about.model_copy(update={"public_key": "cd" * 32})
    (finding,) = check_governance(found(other))
    assert (finding.code, finding.blocks) == ("governance.other_key", False)
    assert "hand-over" in finding.way_out
    assert "telephone" in finding.way_out
