"""Segments are told on the node alone: of the signed version, for those whom the unit may use."""

import stat
from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from clients import runtime
from clients.segments import Assignment, assign_segments, keep_assignment, open_segments
from clients.settings import NodeSettings
from fedcore import canonical, cli
from fedcore.bundle import Evidence, write_bundle
from fedcore.clusterings import CourseSpec, SegmentCount
from fedcore.errors import FedError, InvalidRecordError
from fedcore.models import ModelVersion
from fedcore.permits import NodeGrant, Permit, Revocation
from fedcore.plans import Feature, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.privacy.clustering import Placement
from fedcore.record import Realm, Record
from fedcore.segments.artefact import SegmentModel, encode_model
from fedcore.segments.noised import NoisedSums
from fedcore.signing import SigningKey, sign_record
from simulations.paperwork import make_dpia

COURSE = CourseSpec(segments=SegmentCount(least=2, most=4), spread=8)
# By tenure from 0 to 72 and charges from -10 to 190: new, old and cheap, old and dear.
CENTRES = [[-0.9, 0.0], [0.6, -0.6], [0.6, 0.8]]
IDS = (5, 2, 9)
RECORDS: dict[str, type[Record]] = {
    "model_version": ModelVersion,
    "permit": Permit,
    "plan": TrainingPlan,
}
# By tenure and charges, an empty cell of which counts as 40.
NEAREST = {"C1": 5, "C2": 2, "C3": 2, "C4": 5, "C5": 9, "C6": 5, "C7": 2, "C8": 5}


def artifact(centres=CENTRES, ids=IDS):
    placement = Placement(np.array(centres), 1.0)
    blocks = np.ones((len(centres), 2 * len(centres[0]) + 1))
    last = NoisedSums(placement, COURSE.release_terms(8.0), 2, blocks)
    return encode_model(SegmentModel(last, ids, 9))


class Papers:
    """The papers of a version, signed by those who should; changes make them others."""

    def __init__(self, federation, digest):
        self.world, self.digest, self.contract = federation, digest, federation.contract

    def plan(self, **changes):
        values = {
            "title": "Segments",
            "task": "segmentation",
            "purpose": "marketing",
            "contract": self.contract.digest,
            "features": tuple(Feature(field=f, encoding="scale") for f in ("tenure", "charges")),
            "units": (UnitTerms(unit="north", public_n=48), UnitTerms(unit="south", public_n=48)),
            "minimum_units": 2,
            "model": ModelSpec(kind="centres", course=COURSE),
            "initial_model": self.digest("initial"),
            "rounds": COURSE.terms.releases,
            "privacy": PrivacyTerms(
                l2_clip_norm=COURSE.l2_sensitivity, noise_multiplier=8.0, delta=1e-5
            ),
        }
        return TrainingPlan(**{**values, **changes})

    def permit(self, plan):
        at, key = self.world.clock.now(), SigningKey.generate().public
        return Permit(
            run_id="run-1",
            realm=Realm.SIMULATION,
            plan=plan.digest,
            contract=plan.contract,
            dpia=self.digest("dpia"),
            dpia_decision=self.digest("decision"),
            task=plan.task,
            purpose=plan.purpose,
            cohort=tuple(NodeGrant(unit=t.unit, node_key=key, epsilon=3.0) for t in plan.units),
            minimum_cohort=2,
            author_key=self.world.author_key.public,
            server_key=key,
            rounds=plan.rounds,
            exchanges=plan.exchanges,
            attempts=plan.attempts,
            delta=1e-5,
            min_opt_out_epoch=0,
            accepted_versions=("0.1.0",),
            issued_at=at,
            not_before=at,
            expires_at=at,
        )

    def version(self, permit, data, **changes):
        values = {
            "name": "shoppers",
            "version": 3,
            "realm": Realm.SIMULATION,
            "simulation": True,
            "run_id": "run-1",
            "task": permit.task,
            "plan": permit.plan,
            "permit": permit.digest,
            "contract": permit.contract,
            "dpia": permit.dpia,
            "artifact": canonical.digest(data),
            "artifact_bytes": len(data),
            "round_reports": (self.digest("report"),),
            "receipts": (self.digest("receipt"),),
            "opt_out_epochs": (),
            "epsilon": (),
            "delta": 1e-5,
            "registered_at": self.world.clock.now(),
        }
        return ModelVersion(**{**values, **changes})

    def evidence(self, data=None, version=None, **changes):
        """A bundle of which only what a node looks at is what it says it is."""
        data, plan = data or artifact(), self.plan(**changes)
        permit, key = self.permit(plan), self.world.governance_key
        signed = self.version(permit, data, **(version or {}))
        other = sign_record(self.contract, key, Realm.SIMULATION)
        return Evidence(
            model_version=sign_record(signed, key, Realm.SIMULATION),
            artifact=data,
            permit=sign_record(permit, key, Realm.SIMULATION),
            plan=self.world.sign_plan(plan),
            contract=other,
            dpia=other,
            dpia_decision=other,
            certificates=(),
            reports=(),
            receipts=(),
            revocation=None,
            checkpoint=other,
            log=(),
            cosignatures=(),
        )

    def bundle(self, **changes):
        return write_bundle(self.evidence(**changes))


@pytest.fixture
def papers(federation, digest):
    federation.units["north"].check()
    return Papers(federation, digest)


def node(*arguments):
    entry = EntryPoint("node", "clients.cli:app [node]", cli.COMMANDS_GROUP)
    result = CliRunner().invoke(
        cli.RootCommand({"node": entry}), ["node", *map(str, arguments)], env={"COLUMNS": "200"}
    )
    return result.exit_code, result.output


def refusal(act, *arguments):
    with pytest.raises(FedError) as error:
        act(*arguments)
    return error.value.code


def test_each_customer_gets_the_segment_next_to_them_by_the_unit_s_own_keys(papers, site):
    found = assign_segments(site, open_segments(site, papers.bundle()))
    assert (found.key, dict(found.segments)) == ("customer_id", NEAREST)
    assert found.to_csv().decode().splitlines()[:2] == ["customer_id,segment", "C1,5"]


def test_nobody_who_has_objected_is_in_it_also_when_others_said_nothing(papers, site, contract):
    signed = open_segments(site, papers.bundle())
    site.opt_out("C3", "marketing", contract, "art21_2")
    # Of a purpose below: it says nothing about this one.
    site.opt_out("C4", "retention", contract, "art21_2")
    found = dict(assign_segments(site, signed).segments)
    assert found == {one: at for one, at in NEAREST.items() if one != "C3"}


def test_a_purpose_that_rests_on_consent_has_only_those_who_gave_it(papers, site):
    signed = open_segments(site, papers.bundle(purpose="retention"))
    assert assign_segments(site, signed).segments == ()


def test_nobody_is_assigned_while_the_bulletin_is_stale(papers, federation, opened):
    bundle = papers.bundle()
    for cut_off in (False, True, False):
        federation.cut_off = cut_off
        federation.tick(hours=1)
        with opened(federation) as site:
            signed = open_segments(site, bundle)
            if cut_off:
                assert refusal(assign_segments, site, signed) == "bulletin.stale"
            else:
                assert len(assign_segments(site, signed).segments) == 8


def test_segments_of_a_run_that_the_bulletin_says_is_revoked_are_not_told(papers, federation, site):
    plan = papers.plan(units=(UnitTerms(unit="north", public_n=48),), minimum_units=1)
    federation.put_in_force(make_dpia(plan, papers.contract, 50.0, federation.clock.now()))
    operator, digest = federation.offices["operator"], federation.register(plan)
    for run_id in ("run-1", "run-2"):
        operator.request_permit(digest, run_id)
    signed = open_segments(site, papers.bundle())
    for run_id, refused in (("run-2", False), ("run-1", True)):
        federation.offices["compliance"].revoke_permit(run_id, "stopped")
        site.synchronise()
        if refused:
            assert refusal(assign_segments, site, signed) == "permit.revoked"
        else:
            assert len(assign_segments(site, signed).segments) == 8


def test_segments_of_a_run_that_the_bundle_says_is_revoked_are_not_told(papers, site):
    evidence, others = papers.evidence(), papers.evidence(title="Others")

    def revoked(of, key):
        permit = Permit.from_bytes(of.permit.payload_bytes)
        changes = {"reason": "stopped", "revoked_at": papers.world.clock.now()}
        record = Revocation(run_id=permit.run_id, permit=permit.digest, **changes)
        envelope = sign_record(record, key, Realm.SIMULATION)
        return write_bundle(replace(evidence, revocation=envelope))

    key = papers.world.governance_key
    open_segments(site, revoked(others, key))
    assert refusal(open_segments, site, revoked(evidence, key)) == "permit.revoked"
    stranger = SigningKey.generate()
    assert refusal(open_segments, site, revoked(evidence, stranger)) == "signature.wrong_key"


def test_a_source_that_was_not_checked_is_not_read(federation, digest, opened):
    papers = Papers(federation, digest)
    with opened(federation) as site:
        signed = open_segments(site, papers.bundle())
        assert refusal(assign_segments, site, signed) == "node.unchecked"
        site.check(federation.contract.digest)
        assert len(assign_segments(site, signed).segments) == 8


def test_an_artifact_that_is_not_the_signed_one_is_refused(papers, site):
    evidence = papers.evidence()
    open_segments(site, write_bundle(evidence))
    other = artifact([[-0.9, 0.0], [0.6, -0.6], [0.6, 0.7]])
    code = refusal(open_segments, site, write_bundle(replace(evidence, artifact=other)))
    assert code == "segments.artifact_differs"


def test_a_version_that_governance_has_not_signed_is_refused(papers, site):
    evidence, stranger = papers.evidence(), SigningKey.generate()
    open_segments(site, write_bundle(evidence))
    for member in ("model_version", "permit", "plan"):
        envelope = getattr(evidence, member)
        record = RECORDS[member].from_bytes(envelope.payload_bytes)
        forged = sign_record(record, stranger, Realm.SIMULATION)
        changed = write_bundle(replace(evidence, **{member: forged}))
        assert refusal(open_segments, site, changed) == "signature.wrong_key"


def test_papers_of_another_version_are_refused(papers, site):
    evidence, others = papers.evidence(), papers.evidence(title="Others")
    for member in ("permit", "plan"):
        changed = replace(evidence, **{member: getattr(others, member)})
        assert refusal(open_segments, site, write_bundle(changed)) == "segments.other_papers"
    both = replace(evidence, permit=others.permit, plan=others.plan)
    assert refusal(open_segments, site, write_bundle(both)) == "segments.other_papers"
    open_segments(site, write_bundle(replace(both, model_version=others.model_version)))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (
            {"units": (UnitTerms(unit="south", public_n=48), UnitTerms(unit="west", public_n=48))},
            "segments.other_unit",
        ),
        ({"data": artifact([[0.1], [0.2], [0.3]])}, "segments.other_features"),
        ({"data": b"nothing"}, "segments.model_unreadable"),
        ({"purpose": "nothing"}, "contract.purpose_unknown"),
        (
            {"features": (Feature(field="nothing", encoding="scale"),)},
            "plan.field_unknown",
        ),
    ],
)
def test_segments_that_are_not_for_this_unit_and_contract_are_refused(papers, site, changes, code):
    open_segments(site, papers.bundle())
    assert refusal(open_segments, site, papers.bundle(**changes)) == code


def test_a_model_that_is_no_segmentation_is_refused(papers, site, plan, features):
    changes = {
        "task": "churn",
        "model": plan.model,
        "algorithm": plan.algorithm,
        "features": features,
    }
    assert refusal(open_segments, site, papers.bundle(**changes)) == "segments.no_segments"


def test_the_unit_s_own_policy_has_the_last_word(papers, site):
    bundle = papers.bundle()
    open_segments(site, bundle)
    given = site.settings
    site.settings = given.model_copy(update={"purposes": ("analytics",), "tasks": ("churn",)})
    with pytest.raises(FedError) as error:
        open_segments(site, bundle)
    assert error.value.codes == ("policy.purpose_not_allowed", "policy.task_not_allowed")


def test_what_is_no_bundle_is_refused(site):
    assert refusal(open_segments, site, b"PK nothing") == "bundle.not_a_bundle"


def test_keys_with_commas_quotes_and_lines_come_back_as_they_are(tmp_path):
    keys = ['a,"b"', "c\nd", "é", "=1+1"]
    path = tmp_path / "new" / "out.csv"
    keep_assignment(Assignment("id", tuple((key, 1) for key in keys)), path)
    assert pl.read_csv(path)["id"].to_list() == keys
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidRecordError) as error:
        keep_assignment(Assignment("id", ()), tmp_path / "file" / "out.csv")
    assert error.value.code == "segments.unwritable"


def test_the_command_writes_a_file_for_its_owner_and_overwrites_nothing_unasked(
    papers, federation, tmp_path
):
    bundle, out = tmp_path / "segments.zip", tmp_path / "out.csv"
    bundle.write_bytes(papers.bundle())
    settings = federation.units["north"].settings
    line = ("segments", "assign", bundle, "--out", out, "--settings", settings)
    with runtime.SEAM.bound(federation.surroundings):
        code, said = node(*line)
        assert (code, said) == (0, f"{out}: 8 customers, segments of shoppers version 3\n")
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        before = out.read_bytes()
        code, said = node(*line)
        assert (code, "segments.file_exists" in said) == (1, True)
        federation.units["north"].opt_out("C1", "marketing")
        assert node(*line, "--replace")[0] == 0
        assert out.read_bytes() == before.replace(b"C1,5\n", b"")
        code, said = node(*line[:2], tmp_path / "none", *line[3:], "--replace")
        assert (code, "bundle.unreadable" in said) == (1, True)
    assert NodeSettings.load(settings).unit == "north"
