"""A complete small world on paper: three units, three rounds, all keys; nothing is trained.

Every key, time and salt is fixed, so that two worlds are equal. `edits` change records before they
are signed, by whoever signs them; what is signed later follows. `reseal` is what a lying governance
can do afterwards: sign its own documents again, log them and have the new log cosigned.
"""

import dataclasses
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from fedcore import canonical, merkle
from fedcore.bulletins import LogPosition
from fedcore.bundle import (
    CosignedPosition,
    Evidence,
    LoggedDocument,
    SeenPosition,
    SignedModel,
    write_bundle,
)
from fedcore.model_signatures import ModelKey, public_model_key, sign_model
from fedcore.models import Checkpoint, EpsilonClaim, LogEntry, ModelVersion, OptOutEpoch
from fedcore.permits import Permit
from fedcore.plans import TrainingPlan
from fedcore.privacy.accounting import pld_epsilon, renyi_epsilon
from fedcore.record import Realm, Record
from fedcore.rounds import Answer, Cosignature, Receipt, RoundReport
from fedcore.signing import Envelope, SigningKey, sign_record
from fedcore.verify import verify_bundle

GOLDEN = Path(__file__).parents[1] / "golden"


def _load(name: str) -> Any:
    """Return a module that lies beside this one."""
    file = Path(__file__).with_name(f"{name}.py")
    spec: Any = importlib.util.spec_from_file_location(f"fedcore_{name}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_DOCUMENTS, _JUDGING = _load("documents"), _load("judging")
at, digest, sha, key_of = (
    _DOCUMENTS.at,
    _DOCUMENTS.digest,
    _DOCUMENTS.sha,
    _DOCUMENTS.key_of,
)
UNITS, ROUNDS = _DOCUMENTS.UNITS, _DOCUMENTS.ROUNDS
Edit = Callable[[Any], Any]


class World:
    """Makes the documents of one run; see the module."""

    def __init__(self, realm: Realm = Realm.PRODUCTION) -> None:
        self.realm = realm
        self.governance = key_of("governance")
        self.author = key_of("author")
        self.server = key_of("server")
        self.nodes = {unit: key_of(unit) for unit in UNITS}
        self.tries: Any = ROUNDS
        self.artifact = save({"bias": np.zeros(1, np.float32), "weight": np.ones(3, np.float32)})

    def sign(self, record: Record, key: SigningKey | None = None) -> Envelope:
        return sign_record(record, key or self.governance, self.realm)

    def evidence(self, **edits: Edit) -> Evidence:
        """Return the evidence of a run in which `edits` (by field, or for each report or receipt)
        changed the records before they were signed."""
        return _Run(self, edits).evidence()

    def promoted(self, *people: str, waived: bool = True, **edits: Edit) -> Evidence:
        """Return the evidence of a run whose model became champion, approved by `people`, on an
        audit that is waived or passes; `edits` also change what the model was judged by."""

        def both(first: Edit, second: Edit) -> Edit:
            return lambda record: second(first(record))

        known = _JUDGING.trained_for_it(_DOCUMENTS)
        before = {name: both(known[name], edits.get(name, lambda r: r)) for name in known}
        run = self.evidence(**{**edits, **before})
        asked = {"people": people} if people else {}
        judging = _JUDGING.Judging(self, _DOCUMENTS, run, edits, waived=waived, **asked)
        found: Evidence = judging.promoted()
        return found

    def reseal(self, evidence: Evidence, **changes: Any) -> Evidence:
        """Return the evidence with changed envelopes, under a new log that all units cosigned."""
        return self._sealed(dataclasses.replace(evidence, **changes))

    def relabelled(self, evidence: Evidence, **edits: Edit) -> Evidence:
        """Return the evidence after governance changed and signed its own documents again."""
        types: Mapping[str, type[Record]] = {"model_version": ModelVersion, "permit": Permit}
        changes = {
            name: self.sign(edit(types[name].from_bytes(getattr(evidence, name).payload_bytes)))
            for name, edit in edits.items()
        }
        return self.reseal(evidence, **changes)

    def cosigned(self, evidence: Evidence, entries: list[LogEntry], units: Any) -> Evidence:
        """Return the evidence with a checkpoint over `entries`, cosigned by `units`."""
        leaves = [merkle.leaf_hash(entry.to_bytes()) for entry in entries]
        position = LogPosition(size=len(leaves), root=merkle.root_hash(leaves).hex())
        checkpoint = Checkpoint(realm=self.realm, log=position, issued_at=at(120))
        logged = tuple(
            LoggedDocument(
                entry=entry,
                index=index,
                proof=tuple(item.hex() for item in merkle.inclusion_proof(leaves, index)),
            )
            for index, entry in enumerate(entries)
        )
        cosignatures = tuple(
            CosignedPosition(
                envelope=self.sign(
                    Cosignature(unit=unit, log=position, seen_at=at(121)), self.nodes[unit]
                ),
                consistency=(),
            )
            for unit in units
        )
        return dataclasses.replace(
            self.signed(evidence),
            checkpoint=self.sign(checkpoint),
            log=logged,
            cosignatures=cosignatures,
            positions=tuple(_seen(evidence.receipts, leaves)),
        )

    def signed(self, evidence: Evidence, key: SigningKey | None = None) -> Evidence:
        """Return the evidence with an OpenSSF signature on its model by governance."""
        key = key or self.governance
        pem = public_model_key(key)
        stated = ModelKey(realm=self.realm, public_key=pem, issued_at=at(119))
        signature = sign_model(evidence.artifact, key)
        signed = SignedModel(signature, pem.encode(), self.sign(stated, key))
        return dataclasses.replace(evidence, signed_model=signed)

    def _sealed(self, evidence: Evidence) -> Evidence:
        return self.cosigned(evidence, _DOCUMENTS.entries_of(evidence), UNITS)


class _Run:
    """Builds one world's documents in the order in which they depend on each other."""

    def __init__(self, world: World, edits: Mapping[str, Edit]) -> None:
        self.world = world
        self.edits = edits

    def edited(self, name: str, record: Any) -> Any:
        return self.edits.get(name, lambda unchanged: unchanged)(record)

    def evidence(self) -> Evidence:
        world = self.world
        contract = self.edited("contract", _DOCUMENTS.contract_of())
        plan = self.edited("plan", _DOCUMENTS.plan_of(contract))
        dpia = self.edited("dpia", _DOCUMENTS.dpia_of(contract))
        decision = self.edited("dpia_decision", _DOCUMENTS.decision_of(dpia))
        certificates = [
            self.edited("certificate", _DOCUMENTS.certificate_of(unit, world.nodes[unit]))
            for unit in UNITS
        ]
        permit = self.edited(
            "permit", _DOCUMENTS.permit_of(world.realm, plan, contract, dpia, decision)
        )
        signed = [world.sign(item) for item in (contract, dpia, decision, *certificates, permit)]
        signed.insert(1, world.sign(plan, world.author))
        self.leaves = [merkle.leaf_hash(_DOCUMENTS.entry_of(item).to_bytes()) for item in signed]
        receipts, reports = self.rounds(permit, plan)
        model = self.edited("model_version", self.model(permit, plan, receipts, reports))
        unsealed = Evidence(
            model_version=world.sign(model),
            artifact=world.artifact,
            permit=world.sign(permit),
            plan=world.sign(plan, world.author),
            contract=world.sign(contract),
            dpia=world.sign(dpia),
            dpia_decision=world.sign(decision),
            certificates=tuple(world.sign(item) for item in certificates),
            reports=tuple(world.sign(report, world.server) for report in reports),
            receipts=tuple(world.sign(item, world.nodes[item.unit]) for item in receipts),
            revocation=None,
            checkpoint=world.sign(contract),  # replaced by the seal
            log=(),
            cosignatures=(),
        )
        return world.reseal(unsealed)

    def rounds(self, permit: Permit, plan: TrainingPlan) -> tuple[list[Receipt], list[RoundReport]]:
        receipts: list[Receipt] = []
        reports: list[RoundReport] = []
        model = plan.initial_model
        for step, (round_, attempt, units) in enumerate(self.world.tries):
            answered = [
                self.edited("receipt", self.receipt(permit, plan, unit, step, model))
                for unit in units
            ]
            last = step == len(self.world.tries) - 1
            accepted = len(units) >= 2
            report = RoundReport(
                run_id=permit.run_id,
                realm=permit.realm,
                round=round_,
                attempt=attempt,
                status="accepted" if accepted else "void",
                asked=UNITS,
                answered=tuple(
                    Answer(unit=item.unit, receipt=item.digest, update=item.update)
                    for item in answered
                ),
                unavailable=tuple(unit for unit in UNITS if unit not in units),
                model_in=model,
                model_out=digest(f"model after {step}") if accepted else model,
                previous_report=reports[-1].digest if reports else None,
                released=canonical.digest(self.world.artifact) if last else None,
                ended_at=at(42 + 10 * step),
            )
            reports.append(self.edited("report", report))
            receipts += answered
            model = reports[-1].model_out
        return receipts, reports

    def receipt(
        self, permit: Permit, plan: TrainingPlan, unit: str, step: int, model: str
    ) -> Receipt:
        round_, attempt, _ = self.world.tries[step]
        return Receipt(
            run_id=permit.run_id,
            realm=permit.realm,
            unit=unit,
            round=round_,
            attempt=attempt,
            order=digest(f"order {step} {unit}"),
            permit=permit.digest,
            plan=plan.digest,
            contract=permit.contract,
            applied_epoch=100 + step + UNITS.index(unit),
            bulletin=digest(f"bulletin {step} {unit}"),
            snapshot=sha(f"snapshot {unit}"),
            event=plan.round_event(),
            noise_source="float64-os" if permit.realm == Realm.PRODUCTION else "seeded-simulation",
            ledger_sequence=10 + step,
            ledger_hash=sha(f"ledger {step} {unit}"),
            log=self.position(5 + step),
            model_in=model,
            update=digest(f"update {step} {unit}"),
            software="0.1.0",
            answered_at=at(40 + 10 * step),
        )

    def position(self, size: int) -> LogPosition:
        """Return the log of the first `size` documents, as a node saw it; there are 8."""
        return LogPosition(size=size, root=merkle.root_hash(self.leaves[:size]).hex())

    def model(
        self,
        permit: Permit,
        plan: TrainingPlan,
        receipts: list[Receipt],
        reports: list[RoundReport],
    ) -> ModelVersion:
        accepted = {(item.round, item.attempt) for item in reports if item.status == "accepted"}
        events = {unit: [r.event for r in receipts if r.unit == unit] for unit in UNITS}
        epochs = {
            unit: [
                r.applied_epoch
                for r in receipts
                if r.unit == unit and (r.round, r.attempt) in accepted
            ]
            for unit in UNITS
        }
        return ModelVersion(
            name="churn-telco",
            version=1,
            realm=permit.realm,
            simulation=permit.realm == Realm.SIMULATION,
            run_id=permit.run_id,
            task=plan.task,
            plan=plan.digest,
            permit=permit.digest,
            contract=permit.contract,
            dpia=permit.dpia,
            artifact=canonical.digest(self.world.artifact),
            artifact_bytes=len(self.world.artifact),
            round_reports=tuple(report.digest for report in reports),
            receipts=tuple(receipt.digest for receipt in receipts),
            opt_out_epochs=tuple(
                OptOutEpoch(unit=unit, epoch=min(found)) for unit, found in epochs.items() if found
            ),
            epsilon=tuple(
                EpsilonClaim(
                    unit=unit,
                    claim=renyi_epsilon(found, permit.delta),
                    pld=pld_epsilon(found, permit.delta),
                )
                for unit, found in events.items()
            ),
            delta=permit.delta,
            registered_at=at(100),
        )


def _seen(receipts: Sequence[Envelope], leaves: list[bytes]) -> Iterator[SeenPosition]:
    """Yield the positions that receipts name, with the proofs that this log can give."""
    opened = [canonical.parse(envelope.payload_bytes)["log"] for envelope in receipts]
    for position in dict.fromkeys(LogPosition(**log) for log in opened):
        if position.size <= len(leaves):
            proof = merkle.consistency_proof(leaves, position.size)
            yield SeenPosition(log=position, consistency=tuple(item.hex() for item in proof))


@pytest.fixture(scope="session")
def documents() -> ModuleType:
    """The plain documents and the names, times and keys that they use."""
    return _DOCUMENTS  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def world() -> World:
    """The production world."""
    return World()


@pytest.fixture(scope="session")
def failures() -> Callable[[World, Evidence], dict[str, str]]:
    """Return the checks that fail on some evidence, by name, with their sentences."""

    def of(world: World, evidence: Evidence) -> dict[str, str]:
        report = verify_bundle(write_bundle(evidence), world.governance.public)
        return {check.name: check.text for check in report.checks if not check.ok}

    return of


@pytest.fixture(scope="session")
def evidence(world: World) -> Evidence:
    """The valid evidence of the production world."""
    return world.evidence()


@pytest.fixture(scope="session")
def promoted(world: World) -> Evidence:
    """The valid evidence of a champion of the production world."""
    return world.promoted()


@pytest.fixture(scope="session")
def golden_records() -> list[Record]:
    """One record of each schema, from the golden files."""
    kinds = {kind.schema_id(): kind for kind in _record_types(Record)}
    found = [path.read_bytes() for path in sorted(GOLDEN.glob("*-*.json"))]
    return [kinds[canonical.decode(data)["schema"]].from_bytes(data) for data in found]


def _record_types(kind: type[Record]) -> list[type[Record]]:
    inherited = kind.__subclasses__()
    return inherited + [deeper for item in inherited for deeper in _record_types(item)]
