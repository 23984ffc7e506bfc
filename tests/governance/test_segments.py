"""A segmentation version has a card with its segments, from what was registered alone."""

import html
import re

import numpy as np
import pytest
from safetensors.numpy import load, save

from fedcore import canonical
from fedcore.clusterings import Continuation, CourseSpec, EmbeddingSpec, SegmentCount
from fedcore.contracts import Contract
from fedcore.dpias import Bindings
from fedcore.errors import InvalidRecordError, MismatchError, NotFoundError, RefusedError
from fedcore.evaluations import EvaluatedModel, EvaluationPlan
from fedcore.model_decisions import DecisionRequest
from fedcore.plans import Feature, ModelSpec, PrivacyTerms
from fedcore.privacy.clustering import Placement
from fedcore.record import Realm
from fedcore.segments.artefact import SegmentModel, encode_model
from fedcore.segments.groups import SegmentLayout
from fedcore.segments.noised import NoisedSums

HOSTILE = "Segments <script>alert(1)</script> | *two*"
NOISE = 2.0
COUNT = SegmentCount(least=2, most=4)


EMBEDDED = (
    "Means of the embedding's numbers, which have no unit, each with its interval",
    "In the embedding's numbers, which have no unit, from -1 to 1 each.",
    "The autoencoder's own run was charged beside this one.",
)


def a_course(before=None, embedding=None):
    line = None if before is None else Continuation(artifact=canonical.digest(before), farthest=1)
    return CourseSpec(
        segments=COUNT, spread=8, searches=1, refinements=1, continues=line, embedding=embedding
    )


def artifact(counts, ids, middles=(-0.5, 0.5), width=1, units=2):
    """A version of so many inputs, with so many customers around each middle."""
    sums = [[*width * [0.0], 0.4 * count, *width * [0.004 * count]] for count in counts]
    terms = a_course().release_terms(NOISE)
    centres = np.repeat(np.array(middles)[:, None], width, axis=1)
    last = NoisedSums(Placement(centres, 1.0), terms, units, np.array(sums))
    return encode_model(SegmentModel(last, ids, max(3, *ids)))


def tampered(data, **tensors):
    """The same file with other tensors in it, however unsound."""
    return save({**load(data), **tensors})


@pytest.fixture
def realm():
    """Nothing of a simulation gets an alias."""
    return Realm.PRODUCTION


@pytest.fixture
def segmenting(world):
    """A world whose DPIA lets it look for segments, run it (`train`), and register what a run has
    found (`segment`).
    """
    given = world.dpia().bindings.model_dump()
    bindings = Bindings(**{**given, "task": "segmentation", "epsilon_cap": 30.0})
    world.take_into_force(world.dpia(dpia_id="segments-dpia", bindings=bindings))

    def train(data, run_id, before=None, **changes):
        plan = a_plan(world, before, **changes)
        world.register(plan)
        permit, previous, model = world.permit(run_id, plan), None, plan.initial_model
        for number in range(1, plan.rounds + 1):
            about = {
                "plan": plan.digest,
                "contract": plan.contract,
                "event": plan.round_event(),
                "model_in": model,
            }
            receipts = [world.receipt(permit, unit, number, **about) for unit in ("north", "south")]
            model = canonical.digest(f"placement {number}".encode())
            released = canonical.digest(data) if number == plan.rounds else None
            previous = world.report(receipts, previous, model_out=model, released=released)
            world.submit(previous, receipts)

    def register(data, run_id, before=None, **changes):
        train(data, run_id, before, **changes)
        world.gateway("operator").register_model(run_id, "segments", data)

    world.train, world.segment = train, register
    return world


def a_plan(world, before, **changes):
    course = a_course(before)
    privacy = PrivacyTerms(l2_clip_norm=course.l2_sensitivity, noise_multiplier=NOISE, delta=1e-5)
    values = {
        "task": "segmentation",
        "title": HOSTILE,
        "model": ModelSpec(kind="centres", course=course),
        "algorithm": None,
        "rounds": course.terms.releases,
        "privacy": privacy,
        **changes,
    }
    return world.plan(**values)


def card(world, version, form="md"):
    return world.gateway("author").fetch_card("segments", version, form)


def test_a_segmentation_version_has_segments_on_its_card_and_no_score(segmenting):
    segmenting.segment(artifact((600, 300), (2, 1)), "run-1")
    page = card(segmenting, 1)
    for said in (
        "## Segments\n",
        "| 2 | low tenure | 584 to 616 |",
        r"| tenure | 54.0 \(",
        "| Segment | Across: more tenure | Up: nothing |",
        "This version continues no earlier one with the same inputs and contract: do not compare "
        "its ids with earlier ones",
        "which segment a customer is nearest to; it predicts nothing",
    ):
        assert said in page, said
    assert "What drives the score" not in page
    assert not any(said in page.replace("\\", "") for said in (*EMBEDDED, "the autoencoder"))
    for said in ("Means in the contract's own units", "In the inputs' public scale"):
        assert said in page.replace("\\", ""), said
    assert "What it predicts" not in page


def test_html_and_markdown_say_the_same_and_html_draws_it_without_markup_of_a_plan(segmenting):
    segmenting.segment(artifact((600, 300), (2, 1)), "run-1")
    page = card(segmenting, 1, "html")
    assert page.count("<svg ") == page.count('role="img"') == 2
    assert "<script" not in page
    assert "<script" not in card(segmenting, 1)
    plain = html.unescape(re.sub(r"\\(.)", r"\1", card(segmenting, 1)))
    shown = html.unescape(re.sub(r"<[^>]*>", " ", page))
    part = plain[plain.index("## Segments") : plain.index("## Where it stands")]
    cells = [cell.strip() for line in part.splitlines() for cell in line.split("|")]
    said = [cell for cell in cells if cell and cell[:2] not in {"--", "##", "- "}]
    assert len(said) > 25
    assert [cell for cell in said if cell not in shown] == []


def test_shares_are_told_over_the_versions_that_continue_one_another(segmenting):
    first, other, last = (
        artifact((300, 300), (1, 2)),
        artifact((900, 100), (1, 2)),
        artifact((600, 200), (1, 3)),
    )
    segmenting.segment(first, "run-1")
    segmenting.segment(other, "run-2")
    segmenting.segment(last, "run-3", before=first)
    page = card(segmenting, 3)
    assert "| Segment | Version 1 | Version 3 | Change |" in page
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    assert r"| 50.0 % \(" in rows["1"]
    assert r"| 75.0 % \(" in rows["1"]
    assert r"| \+25.0 \(" in rows["1"]
    assert rows["2"].endswith("| none | gone |")
    assert rows["3"].endswith("| new |")
    assert "Version 1" not in card(segmenting, 2)


@pytest.mark.parametrize("units", [1, 2])
def test_shares_of_fewer_units_are_told_with_a_warning(segmenting, units):
    first, last = artifact((300, 300), (1, 2)), artifact((600, 200), (1, 3), units=units)
    fewer = {"minimum_units": 1}
    segmenting.segment(first, "run-1", **fewer)
    segmenting.segment(last, "run-2", before=first, **fewer)
    warned = "Other units, or fewer or more of them, have trained the version before" in card(
        segmenting, 2
    )
    assert warned == (units == 1)


def test_a_plan_continues_only_segments_with_its_inputs_and_the_decision_can_be_replayed(
    segmenting,
):
    first, last = artifact((300, 300), (1, 2)), artifact((600, 200), (1, 3))
    segmenting.segment(first, "run-1", features=(Feature(field="tenure", encoding="log"),))
    with pytest.raises(RefusedError) as refusal:
        segmenting.segment(last, "run-2", before=first)
    assert refusal.value.codes == ("plan.other_segments",)
    unknown = a_plan(segmenting, artifact((300, 300), (2, 1)))
    segmenting.register(unknown)
    with pytest.raises(RefusedError) as refusal:
        segmenting.permit("run-2", unknown)
    assert refusal.value.codes == ("plan.other_segments",)
    segmenting.segment(first, "run-3")
    segmenting.segment(last, "run-4", before=first)
    for run_id in ("run-2", "run-4"):
        for each in segmenting.get(f"/v1/permits/{run_id}/replays", "auditor")["replays"]:
            assert each["agrees"]


def test_versions_under_another_contract_are_not_compared_though_they_are_continued(segmenting):
    first, last = artifact((300, 300), (1, 2)), artifact((600, 200), (1, 3))
    segmenting.segment(first, "run-1")
    published = segmenting.gateway("author").fetch_contract(segmenting.plan().contract)
    before = segmenting.open(published, Contract)
    after = before.model_copy(update={"version": 2, "retention_days": 400})
    segmenting.gateway("compliance").publish_contract(after)
    bound = segmenting.dpia().bindings.model_dump()
    bindings = {**bound, "task": "segmentation", "contract": after.digest, "epsilon_cap": 30.0}
    segmenting.take_into_force(segmenting.dpia(dpia_id="next", bindings=Bindings(**bindings)))
    segmenting.segment(last, "run-2", before=first, contract=after.digest)
    assert "This version continues no earlier one" in card(segmenting, 2)


def test_versions_in_one_embedding_are_compared_and_one_in_another_is_not_permitted(segmenting):
    first = artifact((300, 300), (1, 2), width=2)
    last = artifact((600, 200), (1, 3), width=2)

    def segment(data, run_id, autoencoder, before=None):
        embedding = EmbeddingSpec(artifact=canonical.digest(autoencoder), width=2)
        model = ModelSpec(kind="centres", course=a_course(before, embedding))
        segmenting.segment(data, run_id, before, model=model)

    segment(first, "run-1", b"a")
    with pytest.raises(RefusedError) as refusal:
        segment(last, "run-2", b"another", first)
    assert refusal.value.codes == ("plan.other_segments",)
    segment(last, "run-3", b"a", first)
    page = card(segmenting, 2)
    assert "| Segment | Version 1 | Version 2 | Change |" in page
    plain = page.replace("\\", "")
    for said in EMBEDDED:
        assert said in plain, said
    [named] = [line for line in plain.splitlines() if "embedding of the autoencoder" in line]
    assert canonical.digest(b"a") in named
    assert "This version continues no earlier one" not in page


def test_only_segments_that_the_plan_can_have_found_are_registered(segmenting, model_bytes):
    sound = artifact((300, 300), (1, 2))
    beyond = np.array([[-0.5], [1.5]])
    for number, (data, error, code) in enumerate(
        [
            (model_bytes, InvalidRecordError, "segments.model_invalid"),
            (tampered(sound, ids=np.array([1, 1])), InvalidRecordError, "segments.model_invalid"),
            (tampered(sound, ids=np.array([1, 9])), InvalidRecordError, "segments.model_invalid"),
            (tampered(sound, centres=beyond), InvalidRecordError, "segments.model_invalid"),
            (artifact((300, 300), (1, 2), width=2), MismatchError, "segments.other_features"),
            (artifact((300, 300), (1, 2), units=3), MismatchError, "segments.other_terms"),
        ]
    ):
        run_id = f"run-{number}"
        segmenting.train(data, run_id)
        logged = segmenting.gateway("operator").fetch_checkpoint()
        with pytest.raises(error) as refusal:
            segmenting.gateway("operator").register_model(run_id, "segments", data)
        assert refusal.value.code == code
        assert segmenting.gateway("operator").fetch_checkpoint() == logged
        with pytest.raises(NotFoundError, match=r"model\.unknown"):
            card(segmenting, 1)
    segmenting.segment(sound, "run-sound")
    assert "## Segments\n" in card(segmenting, 1)


def test_segments_with_more_means_than_anyone_reads_have_none_and_the_card_says_why(segmenting):
    middles = tuple(np.linspace(-1, 1, 79))
    data = artifact((100,) * 79, tuple(range(1, 80)), middles, width=64)
    embedding = EmbeddingSpec(artifact=canonical.digest(b"a"), width=64)
    wide = SegmentCount(least=2, most=79)
    course = a_course(embedding=embedding).model_copy(update={"segments": wide, "spread": 80})
    segmenting.segment(data, "run-1", model=ModelSpec(kind="centres", course=course))
    page = card(segmenting, 1)
    assert r"Not told: 5056 means are more than 5000, and no card" in page
    assert r"segments.too\_many\_means" in page


def resting(data, use):
    """The model of a plan that rests on the version with these bytes."""
    named = EmbeddingSpec(artifact=canonical.digest(data), width=2)
    course = a_course(data) if use == "continues" else a_course(embedding=named)
    return ModelSpec(kind="centres", course=course)


def object_to(world):
    """A customer objects after the models so far were trained."""
    world.clock.tick(minutes=10)
    world.gateway().submit_opt_out(world.sign(world.opt_out("north", 1), "north"))


def decide(world, outcome, role):
    request = DecisionRequest(unit="north", up_to=1, outcome=outcome, reason="weighed")
    world.gateway(role).decide_model("segments", 1, request, "*")


@pytest.mark.parametrize("use", ["continues", "embedding"])
def test_no_run_rests_on_a_withdrawn_version_and_one_that_does_ends_at_once(segmenting, use):
    data = artifact((300, 300), (1, 2))
    segmenting.segment(data, "run-1")
    plan = a_plan(segmenting, None, model=resting(data, use))
    alone = a_plan(segmenting, None, title="Alone")
    for one, run_id in ((plan, "run-2"), (alone, "run-3")):
        segmenting.register(one)
        segmenting.permit(run_id, one)
    object_to(segmenting)
    decide(segmenting, "withdrawn", "compliance")
    assert segmenting.bulletin("north").revoked_runs == ("run-2",)
    with pytest.raises(RefusedError) as refusal:
        segmenting.permit("run-4", plan)
    assert refusal.value.codes == ("plan.initial_model_withdrawn",)
    assert segmenting.permit("run-5", alone).run_id == "run-5"
    decide(segmenting, "kept", "dpo")
    assert segmenting.permit("run-6", plan).run_id == "run-6"


def permit_counting(world, **versions):
    """Permits to count the segments of versions: by run, the version's bytes and its plan."""
    for run_id, (data, training) in versions.items():
        plan = EvaluationPlan(
            title="Sizes",
            models=(EvaluatedModel(artifact=canonical.digest(data), plan=training.digest),),
            rows="all",
            epsilon=0.1,
            delta=1e-5,
            minimum_units=2,
            segments=SegmentLayout(segments=(1, 2)),
        )
        world.gateway("author").register_evaluation_plan(world.sign(plan, "author"))
        world.gateway("operator").request_permit(plan.digest, run_id, "evaluate")


BELOW, ALONE = artifact((300, 300), (1, 2)), artifact((600, 300), (1, 2))


@pytest.mark.parametrize("use", ["continues", "embedding"])
def test_a_version_that_rests_on_a_withdrawn_one_is_marked_and_gets_no_alias(segmenting, use):
    data = artifact((300, 300), (1, 2), width=1 if use == "continues" else 2)
    segmenting.segment(BELOW, "run-1")
    segmenting.segment(data, "run-2", model=resting(BELOW, use))
    segmenting.segment(ALONE, "run-3")
    auditor, approver = segmenting.gateway("auditor"), segmenting.gateway("approver")

    def promote(version):
        seen = auditor.see_aliases("segments")[1]
        approver.promote_model(("segments", version), "challenger", "r", seen)

    def challenger():
        [found, _] = auditor.see_aliases("segments")[0].holders
        return found.version, found.withdrawn, found.basis_withdrawn

    for version in (3, 2, 1):
        promote(version)
    above = (data, a_plan(segmenting, None, model=resting(BELOW, use)))
    permit_counting(segmenting, above=above, apart=(ALONE, a_plan(segmenting, None)))
    object_to(segmenting)
    decide(segmenting, "withdrawn", "compliance")
    assert segmenting.bulletin("north").revoked_runs == ("above",)
    assert challenger() == (1, True, False)
    # The way back passes over what rests on the withdrawn version.
    approver.roll_back("segments", "challenger", "r", auditor.see_aliases("segments")[1])
    assert challenger() == (3, False, False)
    with pytest.raises(RefusedError) as refusal:
        promote(2)
    assert refusal.value.codes == ("promotion.basis_withdrawn",)
    marked = "It rests on segments version 1, which is withdrawn"
    assert [marked in card(segmenting, version) for version in (1, 2, 3)] == [False, True, False]
    decide(segmenting, "kept", "dpo")
    assert marked not in card(segmenting, 2)
    promote(2)
    assert challenger() == (2, False, False)
    decide(segmenting, "withdrawn", "compliance")
    assert challenger() == (2, False, True)
