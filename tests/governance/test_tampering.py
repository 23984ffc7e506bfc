"""What is stored is verified again at each use, however often it was verified before."""

import json

import pytest
from sqlalchemy import create_engine, text

from fedcore.errors import SignatureError


def replace(world, kind, change):
    """Change the newest stored document of a kind behind governance's back; return it as it was."""
    engine = create_engine(world.settings.database_url)
    with engine.begin() as connection:
        query = "SELECT id, envelope FROM documents WHERE kind = :kind ORDER BY id DESC LIMIT 1"
        place, before = connection.execute(text(query), {"kind": kind}).one()
        update = "UPDATE documents SET envelope = :envelope WHERE id = :id"
        connection.execute(text(update), {"envelope": change(before), "id": place})
    engine.dispose()
    return before


def other_letter(letters, place):
    return letters[:place] + ("A" if letters[place] != "A" else "B") + letters[place + 1 :]


def with_other_payload(envelope):
    content = json.loads(envelope)
    content["payload"] = other_letter(content["payload"], 40)
    return json.dumps(content, separators=(",", ":"), sort_keys=True)


def with_other_signature(envelope):
    content = json.loads(envelope)
    [signature] = content["signatures"]
    signature["sig"] = other_letter(signature["sig"], 40)
    return json.dumps(content, separators=(",", ":"), sort_keys=True)


@pytest.mark.parametrize("change", [with_other_payload, with_other_signature])
@pytest.mark.parametrize("kind", ["contract", "unit-certificate", "plan"])
def test_a_document_that_was_altered_after_it_was_used_is_refused_and_restored_serves_again(
    world, kind, change
):
    world.permit("run-1")
    world.permit("run-2")
    before = replace(world, kind, change)
    with pytest.raises(SignatureError) as caught:
        world.permit("run-3")
    assert caught.value.code == "signature.invalid"
    replace(world, kind, lambda _: before)
    assert world.permit("run-3").run_id == "run-3"


@pytest.mark.parametrize("change", [with_other_payload, with_other_signature])
def test_a_paper_of_a_model_that_was_altered_after_its_gate_was_looked_at_is_noticed(
    world, model_bytes, change
):
    world.run("run-1")
    world.gateway("operator").register_model("run-1", "churn", model_bytes)
    look = world.gateway("auditor").check_promotion
    seen = look("churn", 1, "champion")
    for kind in ("receipt", "round-report"):
        before = replace(world, kind, change)
        with pytest.raises(SignatureError) as caught:
            look("churn", 1, "champion")
        assert caught.value.code == "signature.invalid"
        replace(world, kind, lambda _, before=before: before)
        assert look("churn", 1, "champion") == seen
