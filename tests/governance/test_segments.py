"""A segmentation version has a card with its segments, from what was registered alone."""

import html
import re

import numpy as np
import pytest

from fedcore import canonical
from fedcore.dpias import Bindings
from fedcore.plans import Feature
from fedcore.privacy.clustering import Placement, ReleaseTerms
from fedcore.segments.artefact import SegmentModel, encode_model
from fedcore.segments.noised import NoisedSums

HOSTILE = "Segments <script>alert(1)</script> | *two*"
FEATURES = (Feature(field="tenure", encoding="scale"),)


def artifact(counts, ids, middles=(-0.5, 0.5)):
    """A version of one input, with so many customers around each middle and hardly any noise."""
    placement = Placement(np.array(middles)[:, None], 1.0)
    blocks = np.array([[0.0, 0.4 * count, 0.004 * count] for count in counts])
    last = NoisedSums(placement, ReleaseTerms(2.0), 2, blocks)
    return encode_model(SegmentModel(last, ids, 3))


@pytest.fixture
def segmenting(world):
    """A world whose DPIA lets it look for segments; registers a version of these bytes."""
    given = world.dpia().bindings.model_dump()
    bindings = Bindings(**{**given, "task": "segmentation", "epsilon_cap": 30.0})
    world.take_into_force(world.dpia(dpia_id="segments-dpia", bindings=bindings))

    def register(data, run_id, **changes):
        plan = world.plan(**{"task": "segmentation", "title": HOSTILE, **changes})
        world.register(plan)
        permit, previous = world.permit(run_id, plan), None
        for number in (1, 2):
            receipts = [
                world.receipt(permit, unit, number, plan=plan.digest) for unit in ("north", "south")
            ]
            released = canonical.digest(data) if number == 2 else None
            previous = world.report(receipts, previous, released=released)
            world.submit(previous, receipts)
        world.gateway("operator").register_model(run_id, "segments", data)

    world.segment = register
    return world


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
        "No earlier version has the same inputs and contract.",
        "which segment a customer is nearest to; it predicts nothing",
    ):
        assert said in page, said
    assert "What drives the score" not in page
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


def test_shares_are_told_against_the_earlier_versions_that_are_comparable(segmenting):
    segmenting.segment(artifact((300, 300), (1, 2)), "run-1")
    other = (Feature(field="tenure", encoding="log"),)
    segmenting.segment(artifact((900, 1), (1, 2)), "run-2", features=other)
    segmenting.segment(artifact((600, 200), (1, 3)), "run-3")
    page = card(segmenting, 3)
    assert "| Segment | Version 1 | Version 3 | Change |" in page
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    assert r"| 50.0 % \(" in rows["1"]
    assert r"| 75.0 % \(" in rows["1"]
    assert r"| \+25.0 \(" in rows["1"]
    assert rows["2"].endswith("| none | gone |")
    assert rows["3"].endswith("| new |")
    assert "Version 1" not in card(segmenting, 2)


def test_bytes_that_are_no_segments_have_none_and_the_card_says_why(segmenting, model_bytes):
    segmenting.segment(model_bytes, "run-1")
    page = card(segmenting, 1)
    assert r"Not told: tensor 'w': no model of segments has such a tensor" in page
    assert r"segments.model\_invalid" in page
    segmenting.segment(artifact((300, 300), (1, 2)), "run-2")
    assert "| 1 | low tenure |" in card(segmenting, 2)
    assert "No earlier version" in card(segmenting, 2)
