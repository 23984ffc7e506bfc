"""The facts of a model card, read from what is stored."""

from dataclasses import replace

from fedcore.drivers import Drivers, explain
from fedcore.errors import InvalidRecordError, MismatchError
from fedcore.model_decisions import ModelDecision
from fedcore.models import ModelVersion
from fedcore.promotions import Promotion
from governance.audits import list_audits_of
from governance.decisions.model_card import SEGMENTATION, CardFacts, ModelCard, make_card
from governance.decisions.segment_card import SegmentStory
from governance.evaluation_results import find_newest_of
from governance.models import find_model
from governance.office import Desk
from governance.promotion_facts import Lineage, load_lineage, load_promotion
from governance.rounds import load_reports
from governance.segments import load_story
from registry import documents, dpias, model_decisions, models, promotions
from registry.accounts import Account


def card_of(desk: Desk, name: str, version: int, account: Account) -> ModelCard:
    """Return the card of a version as it stands now.

    Raises: NotFoundError `model.unknown`; SignatureError for a paper that was changed.
    """
    stored = find_model(desk, name, version)
    model = desk.open_own(ModelVersion, stored.document)
    lineage = load_lineage(desk, model)
    dpia = dpias.find(desk.session, model.dpia)
    newest = promotions.list_newest(desk.session, name)
    facts = CardFacts(
        model=model,
        # A card is the same for whoever reads it: nobody in particular would move the alias.
        promotion=replace(load_promotion(desk, name, version, "champion", account), person=""),
        permit=lineage.permit,
        plan=lineage.plan,
        contract=lineage.contract,
        dpia=None if dpia is None else dpia.record,
        reports=() if lineage.permit is None else load_reports(desk, lineage.permit),
        decisions=_decisions(desk, name, version),
        moves=_moves(desk, name, version),
        aliases=tuple(sorted(a for a, move in newest.items() if move.to_version == version)),
        evaluation=find_newest_of(desk, stored),
        audits=list_audits_of(desk, name, version),
        drivers=_drivers(desk, lineage),
    )
    return make_card(facts)


def _decisions(desk: Desk, name: str, version: int) -> list[ModelDecision]:
    stored = model_decisions.list_after(desk.session, name, version, 0, None)
    digests = [item.document for item in stored if item.in_force]
    found = documents.find_named(desk.session, ModelDecision, digests)
    return [desk.open_signed_here(found[digest], ModelDecision) for digest in digests]


def _moves(desk: Desk, name: str, version: int) -> list[Promotion]:
    digests = [move.document for move in promotions.list_moves(desk.session, name)]
    found = documents.find_named(desk.session, Promotion, digests)
    opened = (desk.open_signed_here(found[digest], Promotion) for digest in digests)
    return [move for move in opened if version in (move.from_version, move.to_version)]


def _drivers(desk: Desk, lineage: Lineage) -> Drivers | SegmentStory | str:
    model, plan, contract = lineage.model, lineage.plan, lineage.contract
    if plan is None or contract is None:
        return "Not told: the plan or the contract is not recorded."
    if plan.model.kind == "autoencoder":
        return "Not told: an autoencoder scores nobody; segments are searched in its embedding."
    try:
        if model.task == SEGMENTATION:
            return load_story(desk, model, plan, contract)
        return explain(models.load_artifact(desk.session, model.artifact), plan, contract)
    except (InvalidRecordError, MismatchError) as error:
        return f"Not told: {error.public} ({error.code})."
