"""When a permit is renewed, what of a renewal is believed, and what ends a run."""

from datetime import timedelta

import numpy as np
import pytest

from fedcore.errors import (
    ExpiredError,
    MismatchError,
    NotFoundError,
    RefusedError,
    SignatureError,
    UnreachableError,
)
from fedcore.handovers import GovernanceKeys, sign_handover
from fedcore.permits import PermitRenewal
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record
from fedserver.session import Session
from fedserver.window import Window

PRODUCTION = Realm.PRODUCTION
DAY = timedelta(days=1)
REVOKED = RefusedError([("permit.revoked", "over")])
SUSPENDED = RefusedError([("dpia.not_in_force", "suspended")])
AWAY = UnreachableError("governance.unreachable", "nobody answers")
OLD = NotFoundError("route.unknown", "there is no such route")


class Governance:
    """Governance as a run sees it: its key, whether it answers, and what it answers."""

    def __init__(self, permit, now):
        self.permit, self.now, self.key = permit, now, SigningKey.generate()
        self.asked, self.error, self.changes, self.handovers = 0, None, {}, []

    def renew_permit(self, run_id):
        self.asked += 1
        if self.error is not None:
            raise self.error
        values = {
            "run_id": run_id,
            "realm": PRODUCTION,
            "permit": self.permit.digest,
            "sequence": self.asked,
            "issued_at": self.now(),
            "expires_at": self.now() + DAY,
        }
        return sign_record(PermitRenewal(**{**values, **self.changes}), self.key, PRODUCTION)

    def fetch_handovers(self):
        if self.error is not None and self.error is not REVOKED:
            raise self.error
        return tuple(self.handovers)

    def rotate(self):
        new = SigningKey.generate()
        handover = sign_handover(self.key, new, PRODUCTION, "regular", self.now())
        self.handovers.append(handover)
        self.key = new


class Scene:
    """One run, its governance and its clock."""

    def __init__(self, permit, plan, keys, start):
        self.now = start
        self.governance = Governance(permit, lambda: self.now)
        first = self.governance.key
        session = Session(
            permit_envelope=sign_record(permit, first, PRODUCTION),
            plan_envelope=sign_record(plan, keys["author"], PRODUCTION),
            permit=permit,
            plan=plan,
            keys=GovernanceKeys.of(first.public),
            key=keys["server"],
            initial={"w": np.zeros(1)},
        )
        self.window = Window(session, self.governance, lambda: self.now)  # type: ignore[arg-type]

    def at(self, **passed):
        self.now += timedelta(**passed)
        self.window.keep()
        return self.governance.asked


@pytest.fixture
def scene(permit, plan, keys, start):
    return Scene(permit, plan, keys, start)


def test_it_is_renewed_in_the_second_half_of_its_window_and_not_before(scene):
    assert scene.at(hours=11, minutes=59) == 0
    assert scene.window.renewal is None
    assert scene.at(minutes=2) == 1
    assert scene.window.ends_at == scene.now + DAY
    assert scene.at(hours=11) == 1
    assert scene.at(hours=2) == 2


def test_it_is_renewed_when_two_rounds_no_longer_fit(scene, permit, plan):
    long = plan.model_copy(update={"round_deadline_s": 8 * 3600})
    scene.window._session = type(scene.window._session)(
        **{**vars(scene.window._session), "plan": long}
    )
    assert scene.at(hours=7) == 0
    assert scene.at(hours=2) == 1


def test_a_permit_that_has_expired_is_renewed(scene, start):
    assert scene.at(days=3) == 1
    assert scene.window.ends_at == start + 4 * DAY


@pytest.mark.parametrize("error", [AWAY, SUSPENDED, OLD], ids=lambda error: error.code)
def test_without_a_renewal_the_run_goes_on_while_the_window_lasts_and_ends_for_that_reason(
    scene, error
):
    scene.governance.error = error
    assert scene.at(hours=20) == 1
    assert scene.at(hours=3, minutes=59) == 2
    with pytest.raises(type(error)) as caught:
        scene.at(minutes=1)
    assert caught.value.code == error.code
    scene.governance.error = None
    assert scene.at(minutes=1) == 4


def test_a_revoked_permit_ends_the_run_at_once(scene):
    scene.governance.error = REVOKED
    with pytest.raises(RefusedError, match=r"permit\.revoked"):
        scene.at(hours=13)


def test_before_its_time_a_permit_is_early(scene):
    with pytest.raises(ExpiredError, match=r"permit\.early"):
        scene.at(hours=-1)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"run_id": "run-2"}, MismatchError),
        ({"permit": "sha256:" + "0" * 64}, MismatchError),
        ({"realm": Realm.SIMULATION}, MismatchError),
    ],
)
def test_a_renewal_of_something_else_is_not_taken(scene, changes, error):
    scene.governance.changes = changes
    with pytest.raises(error):
        scene.at(hours=13)
    assert scene.window.renewal is None


def test_a_renewal_by_a_stranger_is_not_taken(scene):
    scene.governance.key = SigningKey.generate()
    with pytest.raises(SignatureError):
        scene.at(hours=13)


def test_after_a_hand_over_the_new_key_is_asked_to_stand_for_the_permit_at_once(scene):
    assert scene.at(minutes=1) == 0
    scene.governance.rotate()
    assert scene.at(minutes=1) == 1
    assert scene.window.renewal.signer == scene.governance.key.public
    assert scene.at(minutes=1) == 1
    scene.governance.rotate()
    assert scene.at(minutes=1) == 2


def test_a_renewal_by_the_old_key_after_the_hand_over_is_not_taken(scene):
    thief = scene.governance.key
    scene.governance.rotate()
    scene.governance.key = thief
    with pytest.raises(SignatureError, match=r"signature\.key_retired"):
        scene.at(minutes=1)


class TestHeed:
    @pytest.mark.parametrize("code", ["node.unavailable", "policy.cohort_too_small", "order.old"])
    def test_other_refusals_ask_for_nothing(self, scene, code):
        assert scene.window.heed((code,)) is False
        assert scene.governance.asked == 0

    @pytest.mark.parametrize("code", ["permit.expired", "permit.key_retired"])
    def test_nodes_that_want_a_renewal_are_asked_again_with_one(self, scene, code):
        assert scene.window.heed(("node.unavailable", code)) is True
        assert scene.window.renewal is not None

    def test_a_node_that_lies_about_a_revocation_changes_nothing(self, scene):
        scene.window.heed(("permit.revoked",))
        scene.window.keep()

    def test_a_node_that_says_so_truly_ends_the_run(self, scene):
        scene.governance.error = REVOKED
        with pytest.raises(RefusedError, match=r"permit\.revoked"):
            scene.window.heed(("permit.revoked",))

    def test_with_governance_away_nothing_changes(self, scene):
        scene.governance.error = AWAY
        assert scene.window.heed(("permit.revoked", "permit.expired")) is False
        scene.window.keep()
