"""Bundles that somebody has lied in, each with the check that must notice; honest twins beside.

A lie takes the world, the plain documents and the honest evidence, and returns evidence whose
signatures hold: whoever may sign a document has signed the lie. Both verifiers are held against
these. A twin is the same act at the last value that is still honest.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save

from fedcore import canonical
from fedcore.bulletins import LogPosition
from fedcore.bundle import Evidence
from fedcore.handovers import sign_handover
from fedcore.model_signatures import public_model_key
from fedcore.models import Checkpoint, ModelVersion
from fedcore.permits import PermitRenewal, Revocation
from fedcore.plans import Feature
from fedcore.rounds import Receipt
from fedcore.signing import sign_record

NOTHING = "sha256:" + "0" * 64
Lie = Callable[[Any, Any, Evidence], Evidence]


def changed(**update: Any) -> Callable[[Any], Any]:
    """Return an edit of a record."""
    return lambda record: record.model_copy(update=update)


def part(name: str, **update: Any) -> Callable[[Any], Any]:
    """Return an edit of a part of a record."""
    return lambda record: record.model_copy(
        update={name: getattr(record, name).model_copy(update=update)}
    )


def of_round(round_: int, attempt: int, unit: str | None = None, **update: Any) -> Any:
    """Return an edit of what was made in one try of a round, by one unit if it is named."""

    def edit(record: Any) -> Any:
        here = (record.round, record.attempt) == (round_, attempt)
        return record.model_copy(
            update=update if here and unit in {None, getattr(record, "unit", None)} else {}
        )

    return edit


def edited(**edits: Any) -> Lie:
    """Return a run in which records were changed before they were signed."""
    return lambda world, documents, evidence: world.evidence(**edits)


def timed(kind: str, name: str, minute: int, of: tuple[int, int] | None = None) -> Lie:
    """Return a run in which one time is another."""

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        update = {name: documents.at(minute)}
        edit = of_round(*of, **update) if of else changed(**update)
        found: Evidence = world.evidence(**{kind: edit})
        return found

    return lie


def relabelled(**edits: Callable[[Any], Any]) -> Lie:
    """Return evidence in which governance changed its own documents afterwards."""
    return lambda world, documents, evidence: world.relabelled(evidence, **edits)


def replaced(change: Callable[[Any, Any, Evidence], Mapping[str, Any]]) -> Lie:
    """Return evidence with other members, nothing signed or logged anew."""

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        return dataclasses.replace(evidence, **change(world, documents, evidence))

    return lie


def entries(change: Callable[[list[Any]], list[Any]]) -> Lie:
    """Return evidence under another log, which all units cosigned."""

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        log = change(documents.entries_of(evidence))
        found: Evidence = world.cosigned(evidence, log, world.nodes)
        return found

    return lie


def moved(place: int, to: int) -> Lie:
    """Return evidence in whose log an entry stands at another place."""

    def change(log: list[Any]) -> list[Any]:
        log.insert(to, log.pop(place))
        return log

    return entries(change)


def revoked(minute: int, **update: Any) -> Lie:
    """Return evidence with a revocation of the permit."""

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        said = Revocation(
            run_id="run-1",
            permit=evidence.permit.digest,
            reason="objection",
            revoked_at=documents.at(minute),
        )
        found: Evidence = world.reseal(evidence, revocation=world.sign(changed(**update)(said)))
        return found

    return lie


def renewed(
    *spans: tuple[int, int], ends: int = 90, signer: str = "governance", **update: Any
) -> Lie:
    """Return a run whose permit ends at a minute and was renewed over spans of minutes."""

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        run = world.evidence(permit=changed(expires_at=documents.at(ends)))
        said = [
            PermitRenewal(
                run_id="run-1",
                realm=world.realm,
                permit=run.permit.digest,
                sequence=number,
                issued_at=documents.at(start),
                expires_at=documents.at(end),
            )
            for number, (start, end) in enumerate(spans, 1)
        ]
        key = documents.key_of(signer)
        signed = tuple(world.sign(changed(**update)(item), key) for item in said)
        found: Evidence = world.reseal(run, renewals=signed)
        return found

    return lie


def handed_over(*late: str, signer: str = "next", twice: bool = False, model: bool = True) -> Lie:
    """Return evidence in which governance changed its key before the model was registered."""

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        new, other = documents.key_of("next"), documents.key_of("other")
        said = (world.governance, new), *([(world.governance, other)] if twice else [])
        handovers = tuple(
            sign_handover(old, to, world.realm, "regular", documents.at(95)) for old, to in said
        )
        record = ModelVersion.from_bytes(evidence.model_version.payload_bytes)
        run = dataclasses.replace(
            evidence,
            handovers=handovers,
            model_version=sign_record(record, new if model else world.governance, world.realm),
        )
        log = documents.entries_of(run)
        log.sort(key=lambda entry: entry.document in {getattr(run, n).digest for n in late})
        sealed = world.cosigned(run, log, world.nodes)
        checkpoint = Checkpoint.from_bytes(sealed.checkpoint.payload_bytes)
        signed = sign_record(checkpoint, documents.key_of(signer), world.realm)
        last: Evidence = world.signed(sealed, documents.key_of(signer))
        return dataclasses.replace(last, checkpoint=signed)

    return lie


def without_receipt(world: Any, documents: Any, evidence: Evidence) -> Evidence:
    """Return evidence in which governance denies a receipt, and states less epsilon."""
    fewer = evidence.receipts[:-1]
    kept = [Receipt.from_bytes(envelope.payload_bytes) for envelope in fewer]
    short = world.evidence()
    lower = next(c for c in epsilon_of(short) if c.unit == "south")
    claims = [
        claim.model_copy(update={"claim": lower.claim, "pld": lower.pld})
        if claim.unit == kept[0].unit
        else claim
        for claim in epsilon_of(evidence)
    ]
    stated = changed(receipts=tuple(item.digest for item in fewer), epsilon=tuple(claims))
    found: Evidence = world.relabelled(
        dataclasses.replace(evidence, receipts=fewer), model_version=stated
    )
    return found


def without_round(world: Any, documents: Any, evidence: Evidence) -> Evidence:
    """Return evidence in which governance denies the void round, its receipt and its charge."""
    reports = (evidence.reports[0], *evidence.reports[2:])
    receipts = (*evidence.receipts[:3], *evidence.receipts[4:])
    south = next(claim for claim in epsilon_of(evidence) if claim.unit == "south")
    claims = tuple(
        south.model_copy(update={"unit": c.unit}) if c.unit == "north" else c
        for c in epsilon_of(evidence)
    )
    stated = changed(
        round_reports=tuple(item.digest for item in reports),
        receipts=tuple(item.digest for item in receipts),
        epsilon=claims,
    )
    found: Evidence = world.relabelled(
        dataclasses.replace(evidence, reports=reports, receipts=receipts), model_version=stated
    )
    return found


def epsilon_of(evidence: Evidence) -> tuple[Any, ...]:
    """Return the epsilon that a model states."""
    return ModelVersion.from_bytes(evidence.model_version.payload_bytes).epsilon


def epsilon(**by: float) -> Lie:
    """Return evidence in which a unit's claim or PLD value is less by something."""

    def lower(model: Any) -> Any:
        first, *rest = model.epsilon
        less = {name: getattr(first, name) - value for name, value in by.items()}
        return model.model_copy(update={"epsilon": (first.model_copy(update=less), *rest)})

    return relabelled(model_version=lower)


def widened(world: Any, documents: Any, evidence: Evidence) -> Evidence:
    """Return evidence in which governance widened the permit after the fact."""
    later = world.relabelled(evidence, permit=changed(expires_at=documents.at(400)))
    named = changed(permit=later.permit.digest)
    found: Evidence = world.relabelled(later, model_version=named)
    return found


def forged(field: str) -> Lie:
    """Return evidence with a document that a stranger has signed."""

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        def sign_again(envelope: Any) -> Any:
            key = documents.key_of("stranger")
            sig = envelope.signatures[0].model_copy(update={"keyid": key.public})
            return envelope.model_copy(update={"signatures": (sig,)})

        found = getattr(evidence, field)
        many = isinstance(found, tuple)
        update: Any = (sign_again(found[0]), *found[1:]) if many else sign_again(found)
        return dataclasses.replace(evidence, **{field: update})

    return lie


def one_is_enough(world: Any, documents: Any, evidence: Evidence) -> Evidence:
    """Return a run for which one answer is enough, and whose second round was void with one.

    The honest twin is the run itself, for which two are enough.
    """
    few = changed(minimum_units=1)
    found: Evidence = world.evidence(
        plan=few,
        permit=changed(minimum_cohort=1),
        dpia=part("bindings", minimum_units=1),
    )
    return found


def other_artifact(world: Any, documents: Any, evidence: Evidence) -> Evidence:
    """Return evidence whose model governance exchanged, and signed for."""
    other = save({"bias": np.ones(1, np.float32), "weight": np.ones(3, np.float32)})
    stated = changed(artifact=canonical.digest(other), artifact_bytes=len(other))
    found: Evidence = world.relabelled(
        dataclasses.replace(evidence, artifact=other), model_version=stated
    )
    return found


def signed_by(world: Any, key: Any, evidence: Any) -> Any:
    """Return a signature on the model by a key that governance does not state."""
    other = world.signed(evidence, key).signed_model
    return dataclasses.replace(other, stated=evidence.signed_model.stated)


def beside(key: Any, evidence: Any) -> Any:
    """Return the signature on the model beside another public key."""
    return dataclasses.replace(evidence.signed_model, public_key=public_model_key(key).encode())


def pickled(world: Any, documents: Any, evidence: Evidence) -> Evidence:
    """Return the evidence of a run that released code."""
    other = type(world)(world.realm)
    other.artifact = b"\x80\x04K\x01."
    found: Evidence = other.evidence()
    return found


def acts(*names: tuple[str, str, Mapping[str, Any]], **edits: Any) -> Lie:
    """Return a run under a DPIA on which these acts were done, one a minute."""

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        def edit(decision: Any) -> Any:
            first = decision.acts[0]
            done = tuple(
                first.model_copy(
                    update={"act": act, "actor": actor, "acted_at": documents.at(n), **details}
                )
                for n, (act, actor, details) in enumerate(names)
            )
            return decision.model_copy(update={"acts": done})

        found: Evidence = world.evidence(dpia_decision=edit, **edits)
        return found

    return lie


def fork(world: Any, documents: Any, evidence: Evidence) -> Evidence:
    """Return a run in which one unit was shown another log for one round."""
    other = LogPosition(size=9, root=documents.sha("fork"))
    found: Evidence = world.evidence(receipt=of_round(3, 1, "west", log=other))
    return found


def sensitive(plan: Any) -> Any:
    """Return a plan with a sensitive input."""
    feature = Feature(field="gender", encoding="onehot")
    return plan.model_copy(update={"features": (*plan.features, feature)})


FOUR: list[tuple[str, str, Mapping[str, Any]]] = [
    ("submit", "ada", {}),
    ("evaluate", "ben", {}),
    ("advise", "cem", {}),
]
AGAINST: list[tuple[str, str, Mapping[str, Any]]] = [
    *FOUR[:2],
    ("advise", "cem", {"verdict": "unfavourable"}),
]
GENDER = part("bindings", features=("tenure", "plan", "gender"))

LIES: Mapping[str, tuple[str, Lie]] = {
    "model of a stranger": ("model.signed", forged("model_version")),
    "permit of a stranger": ("permit.signed", forged("permit")),
    "contract of a stranger": ("contract.signed", forged("contract")),
    "dpia of a stranger": ("dpia.signed", forged("dpia")),
    "decision of a stranger": ("decision.signed", forged("dpia_decision")),
    "checkpoint of a stranger": ("checkpoint.signed", forged("checkpoint")),
    "checkpoint of a retired key": ("checkpoint.signed", handed_over(signer="governance")),
    "model of a retired key": ("model.signed", handed_over(model=False)),
    "two successors": ("model.signed", handed_over(twice=True)),
    "plan of a stranger": ("plan.signed", forged("plan")),
    "report of a stranger": ("reports.signed", forged("reports")),
    "receipt of a stranger": ("receipts.signed", forged("receipts")),
    "certificate of a stranger": ("certificates.signed", forged("certificates")),
    "certificate left out": (
        "certificates.signed",
        lambda w, d, e: w.reseal(e, certificates=e.certificates[:2]),
    ),
    "certificate of a unit outside": (
        "certificates.signed",
        lambda w, d, e: w.reseal(
            e,
            certificates=(
                *e.certificates,
                w.sign(d.certificate_of("east", d.key_of("east"))),
            ),
        ),
    ),
    "another plan": ("lineage", relabelled(model_version=changed(plan=NOTHING))),
    "hidden simulation": ("lineage", relabelled(model_version=changed(simulation=True))),
    "more rounds": ("permit.terms", edited(permit=changed(rounds=4))),
    "fewer units": ("permit.terms", edited(permit=changed(minimum_cohort=1))),
    "another size": ("permit.terms", edited(certificate=changed(size_band=2048))),
    "another delta": ("permit.terms", relabelled(model_version=changed(delta=1e-6))),
    "sensitive input": ("plan.features", edited(plan=sensitive, dpia=GENDER)),
    "unknown purpose": (
        "plan.features",
        edited(plan=changed(purpose="x"), dpia=part("bindings", purposes=("x",))),
    ),
    "too much epsilon": ("dpia.bindings", edited(dpia=part("bindings", epsilon_cap=2.9))),
    "a unit too many": ("dpia.bindings", edited(dpia=part("bindings", units=("north", "south")))),
    "an input too many": ("dpia.bindings", edited(dpia=part("bindings", features=("tenure",)))),
    "more units at least": ("dpia.bindings", edited(dpia=part("bindings", minimum_units=3))),
    "suspended dpia": ("dpia.in_force", edited(dpia_decision=changed(state="suspended"))),
    "dpia after the permit": ("dpia.in_force", timed("dpia_decision", "decided_at", 31)),
    "dpia before its time": ("dpia.in_force", timed("dpia", "effective_from", 21)),
    "no approval": ("dpia.in_force", acts(*FOUR)),
    "approved by its author": ("dpia.in_force", acts(*FOUR, ("approve", "ada", {}))),
    "approved against advice": ("dpia.in_force", acts(*AGAINST, ("approve", "dora", {}))),
    "suspended at last": (
        "dpia.in_force",
        acts(*FOUR, ("approve", "dora", {}), ("suspend", "dora", {})),
    ),
    "run after the permit": ("permit.time", timed("permit", "expires_at", 72)),
    "run before the permit": ("permit.time", timed("permit", "not_before", 41)),
    "permit dated back": ("permit.time", timed("permit", "not_before", 27)),
    "revoked in the run": ("permit.time", revoked(72)),
    "revoked before the model": ("permit.time", revoked(100)),
    "another revocation": ("permit.time", revoked(101, run_id="run-2")),
    "gap between renewals": ("permit.time", renewed((50, 61), (65, 80), ends=55)),
    "another renewal": ("permit.renewals", renewed((50, 80), run_id="run-2")),
    "renewal of a stranger": ("permit.renewals", renewed((50, 80), signer="server")),
    "permit beyond the dpia": ("dpia.time", timed("dpia", "valid_until", 89)),
    "round after the dpia": ("dpia.time", timed("dpia_decision", "valid_until", 72)),
    "renewal beyond the dpia": ("dpia.time", renewed((50, 60 * 24 * 365 + 1))),
    "receipt after its report": ("times", timed("receipt", "answered_at", 45, (1, 1))),
    "receipt before its round": ("times", timed("receipt", "answered_at", 39, (2, 1))),
    "model before its run": (
        "times",
        lambda w, d, e: w.relabelled(e, model_version=changed(registered_at=d.at(69))),
    ),
    "certified after the permit": ("times", timed("certificate", "issued_at", 31)),
    "round dropped": ("reports.chain", without_round),
    "round missing": ("reports.chain", edited(plan=changed(rounds=4, spare_rounds=0))),
    "reports turned": ("reports.chain", replaced(lambda w, d, e: {"reports": e.reports[::-1]})),
    "another start": ("reports.chain", edited(report=of_round(3, 1, model_in=NOTHING))),
    "another run": ("reports.chain", edited(report=changed(run_id="run-2"))),
    "unit not counted": ("reports.cohort", edited(report=of_round(2, 1, unavailable=("west",)))),
    "stranger asked": ("reports.cohort", edited(report=of_round(1, 1, asked=("north", "south")))),
    "void though enough answered": ("reports.cohort", one_is_enough),
    "too many tries": ("reports.cohort", edited(permit=changed(attempts=1))),
    "another model": ("artifact", other_artifact),
    "another size of model": ("artifact", relabelled(model_version=changed(artifact_bytes=1))),
    "code for a model": ("artifact", pickled),
    "released early": ("artifact", edited(report=of_round(1, 1, released=NOTHING))),
    "signature of another model": (
        "artifact.signature",
        replaced(lambda w, d, e: {"signed_model": other_artifact(w, d, e).signed_model}),
    ),
    "signature by another key": (
        "artifact.signature",
        replaced(lambda w, d, e: {"signed_model": signed_by(w, d.key_of("other"), e)}),
    ),
    "another key beside the signature": (
        "artifact.signature",
        replaced(lambda w, d, e: {"signed_model": beside(d.key_of("other"), e)}),
    ),
    "no signature on the model": (
        "artifact.signature",
        replaced(lambda w, d, e: {"signed_model": None}),
    ),
    "receipt missing": ("receipts.complete", without_receipt),
    "receipt denied": (
        "receipts.complete",
        relabelled(model_version=lambda m: m.model_copy(update={"receipts": m.receipts[1:]})),
    ),
    "other software": ("receipts.terms", edited(receipt=of_round(1, 1, "west", software="9.9"))),
    "other permit": (
        "receipts.terms",
        edited(receipt=of_round(1, 1, "west", permit=NOTHING)),
    ),
    "other noise": (
        "receipts.terms",
        edited(receipt=part("event", noise_multiplier=9.0)),
    ),
    "other clip": ("receipts.terms", edited(receipt=part("event", l2_sensitivity=2.0))),
    "other steps": ("receipts.terms", edited(receipt=part("event", steps=1))),
    "seeded noise": ("receipts.terms", edited(receipt=changed(noise_source="seeded-simulation"))),
    "other update": ("receipts.terms", edited(receipt=of_round(1, 1, "west", round=2))),
    "permit widened": ("receipts.terms", widened),
    "opt-outs too old": ("opt_outs", edited(permit=changed(min_opt_out_epoch=101))),
    "opt-outs forgotten": ("opt_outs", edited(receipt=of_round(3, 1, "north", applied_epoch=101))),
    "opt-outs overstated": (
        "opt_outs",
        relabelled(
            model_version=lambda m: m.model_copy(update={"opt_out_epochs": m.opt_out_epochs[1:]})
        ),
    ),
    "ledger stands still": ("ledgers", edited(receipt=changed(ledger_sequence=7))),
    "order answered twice": ("ledgers", edited(receipt=changed(order=NOTHING))),
    "epsilon lowered": ("epsilon", epsilon(claim=1e-4)),
    "epsilon raised": ("epsilon", epsilon(claim=-1e-4)),
    "PLD lowered": ("epsilon", epsilon(pld=1e-3)),
    "epsilon left out": (
        "epsilon",
        relabelled(model_version=lambda m: m.model_copy(update={"epsilon": m.epsilon[1:]})),
    ),
    "more epsilon than granted": (
        "epsilon",
        edited(
            permit=lambda p: p.model_copy(
                update={"cohort": tuple(g.model_copy(update={"epsilon": 1.47}) for g in p.cohort)}
            )
        ),
    ),
    "not logged": ("log.included", entries(lambda log: log[:-1])),
    "logged as another": (
        "log.included",
        entries(lambda log: [*log[:9], log[9].model_copy(update={"kind": "x"}), *log[10:]]),
    ),
    "no proofs": ("log.included", replaced(lambda w, d, e: {"log": ()})),
    "plan logged late": ("log.order", moved(1, 7)),
    "report logged early": ("log.order", moved(11, 8)),
    "model logged early": ("log.order", moved(21, 19)),
    "permit of a retired key": ("keys.in_time", handed_over("permit")),
    "dpia of a retired key": ("keys.in_time", handed_over("dpia")),
    "one cosignature": (
        "log.cosigned",
        replaced(lambda w, d, e: {"cosignatures": e.cosignatures[:1]}),
    ),
    "forked for one unit": ("log.seen", fork),
    "no positions": ("log.seen", replaced(lambda w, d, e: {"positions": ()})),
    "log rewritten": ("log.seen", entries(lambda log: [log[-1], *log[:-1]])),
    "log shrinks": (
        "log.one_history",
        edited(receipt=of_round(3, 1, "west", log=LogPosition(size=1, root="0" * 64))),
    ),
    "two logs of one size": (
        "log.one_history",
        lambda w, d, e: w.evidence(
            receipt=of_round(1, 1, "west", log=LogPosition(size=5, root=d.sha("fork")))
        ),
    ),
}

TWINS: Mapping[str, Lie] = {
    "nothing changed": lambda w, d, e: e,
    "approved with a reason": acts(*AGAINST, ("approve", "dora", {"overruling_reason": "r"})),
    "resumed": acts(
        *FOUR, ("approve", "dora", {}), ("suspend", "dora", {}), ("resume", "dora", {})
    ),
    "key handed over": handed_over(),
    "permit ends with the run": timed("permit", "expires_at", 73),
    "permit ends with the dpia": timed("dpia", "valid_until", 90),
    "revoked after the model": revoked(101),
    "renewed without gap": renewed((50, 61), (62, 80), ends=55),
    "renewed until the dpia ends": renewed((50, 60 * 24 * 365)),
    "receipt two minutes after its report": timed("receipt", "answered_at", 44, (1, 1)),
    "dpia in force in time": timed("dpia", "effective_from", 20),
    "other software accepted": edited(
        receipt=of_round(1, 1, "west", software="9.9"),
        permit=changed(accepted_versions=("0.1.0", "9.9")),
    ),
    "sampled": edited(plan=part("privacy", sampling_rate=0.3, local_steps=7, noise_multiplier=4.0)),
    "sampled rarely": edited(
        plan=part("privacy", sampling_rate=0.01, local_steps=400, noise_multiplier=1.1)
    ),
    "sampled with little noise": edited(
        plan=part("privacy", sampling_rate=0.4, local_steps=1, noise_multiplier=1.5),
        permit=lambda p: p.model_copy(
            update={"cohort": tuple(g.model_copy(update={"epsilon": 9.0}) for g in p.cohort)}
        ),
        dpia=part("bindings", epsilon_cap=9.0),
    ),
}
