import dataclasses

import pytest

from fedcore.record import Realm

GOVERNANCE = {
    "model_version": "model.signed",
    "permit": "permit.signed",
    "contract": "contract.signed",
    "dpia": "dpia.signed",
    "dpia_decision": "decision.signed",
    "checkpoint": "checkpoint.signed",
}


def forged(envelope):
    """Return the envelope with the signature of nobody."""
    signature = envelope.signatures[0]
    sig = ("B" if signature.sig[0] == "A" else "A") + signature.sig[1:]
    return envelope.model_copy(update={"signatures": (signature.model_copy(update={"sig": sig}),)})


@pytest.mark.parametrize(("field", "check"), GOVERNANCE.items())
def test_each_document_of_governance_needs_its_signature(world, evidence, failures, field, check):
    found = failures(
        world, dataclasses.replace(evidence, **{field: forged(getattr(evidence, field))})
    )
    assert f"{field.replace('_', '-')}.json: " in found[check]
    assert "(signature.invalid)" in found[check]


@pytest.mark.parametrize(("field", "check"), GOVERNANCE.items())
def test_each_document_of_governance_needs_governances_key(
    world, documents, evidence, failures, field, check
):
    impostor = type(world)(world.realm)
    impostor.governance = documents.key_of("impostor")
    other = dataclasses.replace(evidence, **{field: getattr(impostor.evidence(), field)})
    assert "(signature.wrong_key)" in failures(world, other)[check]


@pytest.mark.parametrize(
    ("role", "check"), [("author", "plan.signed"), ("server", "reports.signed")]
)
def test_plan_and_reports_need_the_keys_that_the_permit_names(
    world, documents, failures, role, check
):
    other = type(world)(world.realm)
    setattr(other, role, documents.key_of("impostor"))
    assert "(signature.wrong_key)" in failures(world, other.evidence())[check]


def test_a_receipt_of_a_key_outside_of_the_cohort_fails(world, documents, failures):
    other = type(world)(world.realm)
    genuine = other.evidence()
    other.nodes = {**world.nodes, "west": documents.key_of("impostor")}
    receipts = other.evidence().receipts
    found = failures(world, world.reseal(genuine, receipts=receipts))
    assert "receipts/000003.json" in found["receipts.signed"]


def test_a_receipt_signed_by_another_unit_of_the_cohort_fails(world, failures):
    swapped = type(world)(world.realm)
    swapped.nodes = {**world.nodes, "west": world.nodes["south"]}
    found = failures(world, world.reseal(world.evidence(), receipts=swapped.evidence().receipts))
    assert "another unit's key" in found["receipts.signed"]


def test_a_certificate_with_another_key_than_the_permit_fails(world, documents, failures):
    key = documents.key_of("impostor").public

    def other_key(certificate):
        return certificate.model_copy(
            update={"node_key": key} if certificate.unit == "west" else {}
        )

    found = failures(world, world.evidence(certificate=other_key))
    assert "the certificate of west" in found["certificates.signed"]
    assert "receipts.signed" in found


def test_a_unit_without_certificate_fails(world, evidence, failures):
    found = failures(world, world.reseal(evidence, certificates=evidence.certificates[:2]))
    assert "the certificate of west" in found["certificates.signed"]


def test_two_units_with_one_key_fail(world, failures):
    key = world.nodes["south"].public
    world_of_two = type(world)(world.realm)
    world_of_two.nodes = {**world.nodes, "west": world.nodes["south"]}

    def one_key(permit):
        cohort = tuple(
            grant.model_copy(update={"node_key": key}) if grant.unit == "west" else grant
            for grant in permit.cohort
        )
        return permit.model_copy(update={"cohort": cohort})

    found = failures(world, world_of_two.evidence(permit=one_key))
    assert "(permit.cohort_invalid)" in found["certificates.signed"]


@pytest.mark.parametrize("field", ["permit", "model_version", "receipt", "report"])
def test_a_document_whose_content_names_the_other_realm_fails(world, failures, field):
    def other(record):
        return record.model_copy(update={"realm": Realm.SIMULATION})

    texts = failures(world, world.evidence(**{field: other})).values()
    assert any("(document.other_realm)" in text for text in texts)
