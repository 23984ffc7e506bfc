"""Verify an evidence bundle offline: a second verifier, written from `evidence-bundle.md` alone.

    python verify_bundle.py BUNDLE KEY [production | simulation]

KEY is governance's public key, 64 hex digits. It needs Python 3.11 and `cryptography`, and nothing
of fedpact. Exit code 0: the rules below held, the format's checks; not bounds of other fields.
"""

import base64
import io
import json
import math
import re
import sys
import zipfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

# What is read, in an order in which each follows from those before it: the name of the file or
# folder, the record in it, and the check that fails where it is signed by a stranger.
TOP = """model-version model-version model.signed, contract contract contract.signed,
    checkpoint checkpoint checkpoint.signed, model-key model-key artifact.signature,
    audits fairness-audit audits, waivers waiver waivers, approvals approval approvals,
    moves promotion aliases"""
RUN = """permit permit permit.signed, dpia dpia dpia.signed,
    dpia-decision dpia-decision decision.signed, certificates unit-certificate certificates.signed,
    plan plan plan.signed, reports round-report reports.signed, receipts receipt receipts.signed,
    renewals permit-renewal permit.renewals, revocation revocation permit.time"""
EVALUATION = "evaluation evaluation evaluations.signed"
COSIGNED = "cosignatures cosignature log.cosigned"
SINGLE = {"model-version", "contract", "checkpoint", "evaluation",
          "permit", "dpia", "dpia-decision", "plan"}
FORMS = {"log": {"schema", "entry", "index", "proof"},
         "positions": {"schema", "consistency", "log"},
         "cosignatures": {"schema", "consistency", "envelope"}}

# Each check: its name, for a run `training / evaluation`, and what must be true, or a name for it.
RULES = """
lineage / evaluations.terms
  [result.permit, result.plan, result.contract] == [permit.ref, plan.ref, contract.ref]
  [permit.contract, permit.dpia, permit.dpia_decision] == [contract.ref, dpia.ref, decision.ref]
  [result.dpia, result.run_id, result.task] == [dpia.ref, permit.run_id, permit.task]
  result.simulation == (realm == "simulation")
permit.terms / evaluations.terms
  terms_of(plan) == {name: permit[name] for name in terms_of(plan)}
  [permit.plan, result.delta] == [plan.ref, permit.delta]
  all(permit[name] == trained[name] for name in ("contract", "task", "purpose"))
  permit.minimum_cohort >= plan.minimum_units and {*units.values()} <= sizes.keys()
  "models" in plan or all(sizes[c.unit] == c.size_band * 3 // 2 for c in certificates)
dpia.bindings / evaluations.terms
  bound := dpia.bindings
  [permit.task, permit.contract] == [bound.task, bound.contract]
  permit.get("ledger_caps") == bound.get("ledger_caps")
  permit.get("update_retention_days") in {None, bound.get("update_retention_days")}
  permit.purpose in bound.purposes and trained.privacy.mode in bound.privacy_modes
  refused := {item.field for item in dpia.get("minimisation", []) if item.verdict != "allowed"}
  {item.field for item in trained.features} <= {*bound.features} - refused
  {*units.values()} <= {*bound.units} and permit.minimum_cohort >= bound.minimum_units
  "models" in plan or "mitigation" not in plan or covers(dpia, contract, plan, plan.mitigation)
  permit.delta <= bound.delta_cap and max(g.epsilon for g in permit.cohort) <= bound.epsilon_cap
dpia.in_force / evaluations.time
  [decision.state, decision.dpia] == ["in_force", dpia.ref]
  start := max((n for n, act in enumerate(decision.acts) if act.act == "submit"), default=0)
  line := decision.acts[start:]
  done := [(DUTIES[act.act], act) for act in line if act.act in DUTIES]
  owners := {e.id for e in dpia.get("entities", []) if e.role != "processor"
             and {*e.units} & {*dpia.bindings.units}}
  [n for n, _ in done] == [0, 1, *[2] * max(1, len(owners)), *[3] * max(1, len(owners))]
  len(owners) < 2 or all(owners <= {a.get("entity") for m, a in done if m == n} for n in (2, 3))
  bad := {act.get("entity") for _, act in done if act.get("verdict") == "unfavourable"}
  all("overruling_reason" in act or not bad & ({act.entity, None} if "entity" in act else bad)
      for duty, act in done if duty == 3)
  ending := {"reject", "suspend", "withdraw"}
  [a.act for a in line if DUTIES.get(a.act) == 3 or a.act in {*ending, "resume"}][-1] not in ending
  len({(duty, act.actor) for duty, act in done}) == len({act.actor for _, act in done})
  rise([*(act.acted_at for act in decision.acts), decision.decided_at, permit.issued_at])
  permit.issued_at < force
  "effective_from" not in dpia or dpia.effective_from <= decision.decided_at
permit.time / evaluations.time
  permit.not_before >= permit.issued_at - SKEW
  windows := [(permit.not_before, permit.expires_at),
              *((item.issued_at - SKEW, item.expires_at) for item in renewals)]
  all(any(start <= moment < end for start, end in windows) for moment in moments)
  last := max([*moments, made_at, *(item.issued_at for item in renewals)])
  all([o.permit, o.run_id] == [permit.ref, permit.run_id] for o in revocation)
  all(last < o.revoked_at for o in revocation)
permit.renewals / evaluations.time
  all([item.permit, item.run_id] == [permit.ref, permit.run_id] for item in renewals)
dpia.time / evaluations.time
  max(moments) < valid and permit.expires_at <= force
  all(item.expires_at <= valid for item in renewals)
times / evaluations.time
  all(item.issued_at <= permit.issued_at for item in certificates)
  ends := {report.ref: report.ended_at - SKEW for report in reports}
  all(ends.get(report.get("previous_report"), r.answered_at) <= r.answered_at
      <= report.ended_at + SKEW for report, _, r in answers(reports, receipts))
  late := [*(report.ended_at for report in reports), made_at, checkpoint.issued_at]
  all(one - SKEW <= other for one, other in pairwise(late))
reports.chain / evaluations.receipts
  start := plan.models[0].artifact if "models" in plan else plan.initial_model
  models := [start, *(report.model_out for report in reports)]
  places := [(1, 1), *((r.round + 1, 1) if r.status == "accepted" else (r.round, r.attempt + 1)
                       for r in reports)]
  refs := [report.ref for report in reports]
  [((r.round, r.attempt), r.get("previous_report"), r.model_in) for r in reports] \
      == [*zip(places, [None, *refs], models)][:-1]
  ends := [r.round for r, _, over in checked(plan, reports) if over]
  places[-1] == ([*ends, permit.rounds][0] + 1, 1)
  {r.run_id for r in reports} == {permit.run_id}
  all(r.status == "accepted" or r.model_in == r.model_out for r in reports)
  refs == (result.round_reports if "round_reports" in result else [*refs[:-1], result.round_report])
reports.cohort / evaluations.receipts
  cohort := sorted(units.values())
  all(sorted([*(a.unit for a in r.answered), *r.unavailable]) == cohort for r in reports)
  all({a.unit for a in r.answered} <= {*r.asked} <= {*cohort} for r in reports)
  all(len({*r.asked}) == len(r.asked) and r.attempt <= permit.attempts for r in reports)
  all((r.status == "accepted") == (len(r.answered) >= permit.minimum_cohort) for r in reports)
  len(reports) <= permit.exchanges
receipts.complete / evaluations.receipts
  sorted(a.receipt for r in reports for a in r.answered) == sorted(item.ref for item in receipts)
receipts.terms / evaluations.receipts
  same := {"permit": permit.ref, "event": event_of(plan),
           **{name: permit[name] for name in ("plan", "contract", "run_id")}}
  all(item.items() >= same.items() for item in receipts)
  sources := {"float64-os", "seeded-simulation" if realm == "simulation" else "float64-os"}
  all(r.noise_source in sources and r.software in permit.accepted_versions for r in receipts)
  all(r.applied_epoch >= permit.min_opt_out_epoch for r in receipts)
  all([r.round, r.attempt, r.model_in, r["update"]] == [o.round, o.attempt, o.model_in, a["update"]]
      for o, a, r in answers(reports, receipts))
  best := {report.ref: compared for report, compared, _ in checked(plan, reports)}
  all([a["update"] if best[o.ref] else None, r.get("compared")] == [gain_of(o, a), best[o.ref]]
      and (best[o.ref] is None or o.model_in == o.model_out)
      for o, a, r in answers(reports, receipts))
opt_outs / evaluations.receipts
  seen := by_unit(reports, receipts, "applied_epoch")
  all(rise([permit.min_opt_out_epoch, *found]) for found in seen.values())
  counted := by_unit([r for r in reports if r.status == "accepted"], receipts, "applied_epoch")
  sorted((o.unit, o.epoch) for o in result.opt_out_epochs) \
      == sorted((unit, min(found)) for unit, found in counted.items())
ledgers / evaluations.receipts
  all(sorted({*found}) == found for found in by_unit(reports, receipts, "ledger_sequence").values())
  len({item.order for item in receipts}) == len(receipts)
epsilon / evaluations.epsilon
  len({item.unit for item in result.epsilon}) == len(result.epsilon)
  {item.unit for item in result.epsilon} <= {*units.values()}
  all(spent_as_stated(grant, receipts, result.epsilon, permit.delta) for grant in permit.cohort)
evaluations.terms
  all([(m.artifact, m.plan) for m in r.plan.models]
      == [(m.artifact, m.plan) for m in r.result.models] for r in evaluations)
  all(outcome(r.result, model).get("seen_by_checks", False)
      is ("early_stopping" in trained and r.plan.rows == "holdout") for r in evaluations)
  all(len({o.name for o in m.numbers}) == len(m.numbers) for r in evaluations
      for m in r.result.models)
  all([r.result.rows, r.result.purpose] == [r.plan.rows, r.permit.purpose] for r in evaluations)
  all(math.isclose(r.result.table_epsilon, 1 / event_of(r.plan)["noise_multiplier"])
      for r in evaluations)
  all(r.plan.rows == "all" or ("holdout" if r.plan.rows == "holdout" else "train_until") in trained
      for r in evaluations)
  all(counts_as_model(r.plan, trained.model, artifact) for r in evaluations)
  len({r.permit.run_id for r in runs}) == len(runs)
evaluations.receipts
  last := [(r, sorted(r.reports[-1].answered, key=lambda item: item.unit)) for r in evaluations]
  all(r.result.tables == [a["update"] for a in line] for r, line in last)
  all(r.result.units == len(line) for r, line in last)
  all(sorted(r.result.receipts) == sorted(a.receipt for a in line) for r, line in last)
  all(o.model_out == o.model_in and "released" not in o for r in evaluations for o in r.reports)
evaluations.epsilon
  caps := [r.permit.get("ledger_caps", {}).get("history") for r in runs]
  whole := {u: [o for r in runs for o in r.receipts if o.unit == u]
           for one in runs for u in one.units.values()}
  None in caps or all(claim_of(whole[u], permit.delta) <= max(caps) + 1e-6 for u in whole)
plan.features
  fields := {field.name: field for field in contract.fields}
  all(fields[item.field].sensitivity == "none" for item in plan.features)
  all(("availability" in fields[f.field]) == ("absent" in f) for f in plan.features)
  all(imputes(fields[f.field], f.absent) for f in plan.features if "absent" in f)
  plan.purpose in {purpose.id for purpose in contract.purposes}
artifact
  made := digest(artifact)
  [o.get("released") for o in reports] == [*[None] * len(reports[1:]), made]  # model.safetensors
  [model.artifact, model.artifact_bytes] == [made, len(artifact)]
  start := 8 + int.from_bytes(artifact[:8], "little")
  header := json.loads(artifact[8:start])
  spans := sorted(header[name]["data_offsets"] for name in header if name[:2] != "__")
  edges := [0, *(edge for span in spans for edge in span), len(artifact) - start]
  edges == sorted(edges) and edges[::2] == edges[1::2]
artifact.signature
  signed_as_stated(artifact, signature, pem, model_key.public_key)
receipts.complete
  sorted(model.receipts) == sorted(item.ref for item in receipts)
audits
  of := {r.result.ref: r for r in evaluations}
  [[o.name, o.version, o.artifact, o.number] for o in audits] \
      == [[model.name, model.version, model.artifact, n + 1] for n in range(len(audits))]
  [o.get("first") for o in audits] == [audits[0].ref if n else None for n in range(len(audits))]
  repeated := "run_id realm simulation plan permit contract dpia tables units table_epsilon".split()
  all(o[name] == of[o.evaluation].result[name] for o in audits for name in repeated)
  about := [(o.found, run.plan.get("segments") or run.plan.fairness, run.dpia.bindings)
            for o in audits for run in [of[o.evaluation]]]
  all(500 >= sum(len(but_other(groups_of(bound.fairness_audit, o.attribute)))
          * len(rates_of(o.metric, plan)) for o in bound.fairness) for _, plan, bound in about)
  all(dpia.bindings.get(name) == bound[name] for _, _, bound in about
      for name in ("fairness", "fairness_audit"))
  all([[o.name, o.groups, o.get("edges")] for o in plan.attributes]
      == [[o.name, o.groups, o.get("edges")] for o in bound.fairness_audit.attributes]
      for _, plan, bound in about)
  all("segments" in plan or [plan.threshold, {*plan.get("further_edges", [])}] == [
      bound.fairness_audit.get("threshold", 0.5), {*bound.fairness_audit.get("further_edges", [])}]
      for _, plan, bound in about)
  all([found.get("threshold"), found.alpha, found.minimum_size] == [plan.get("threshold"),
      bound.fairness_audit.get("alpha", 0.05), bound.fairness_audit.get("minimum_size", 30)]
      for found, plan, bound in about)
  all([(o.attribute, o.metric, o.largest_gap, one.group, one.rate)
      for o in found.bounds for one in o.compared]
      == [(o.attribute, o.metric, o.largest_gap, group, rate) for o in bound.fairness
          for group in but_other(groups_of(bound.fairness_audit, o.attribute))
          for rate in rates_of(o.metric, plan)]
      for found, plan, bound in about)
  all([(o.attribute, o.group, o.segment) for o in found.get("shares", [])]
      == [(name, group, n) for name in dict.fromkeys(o.attribute for o in bound.fairness)
          for group in groups_of(bound.fairness_audit, name) for n in plan.get("segments", [])]
      for found, plan, bound in about)
  all(o.low <= o.share <= o.high if "people" in o else not {"low", "share", "high"} & {*o}
      for found, _, _ in about for o in found.get("shares", []))
  all(fits(o, one) for found, _, _ in about for o in found.bounds for one in o.compared)
  all(follows(o.verdict, o.compared) for found, _, _ in about for o in found.bounds)
  all(follows(found.verdict, sum([o.compared for o in found.bounds], [])) for found, _, _ in about)
  [o.evaluation for o in audits] == [
      r.result.ref for r in evaluations if r.plan.models[0].artifact == model.artifact
      and ("fairness" in r.plan or r.plan.get("segments", {}).get("attributes"))]
waivers
  all([o.name, o.version, o.number] == [model.name, model.version, n]
      and [o.audit, len({*o.people})] == [audits[0].ref, 1 + ("joins" in o)]
      and len({*o.people}) == len(o.people) and o.waived_at < o.expires_at
      for n, o in enumerate(waivers, 1))
  earlier := {o.ref: (n, o.people, o.reason, o.expires_at) for n, o in enumerate(waivers)}
  all(earlier[o.joins][0] < n and earlier[o.joins][1:] == (o.people[:1], o.reason, o.expires_at)
      for n, o in enumerate(waivers) if "joins" in o)
approvals
  all([o.name, o.version, o.number, o.model] == [model.name, model.version, n, model.ref]
      for n, o in enumerate(approvals, 1))
  len({(o.approved_by, o.evidence) for o in approvals}) == len(approvals)
aliases
  moved_in_one_chain(moves, model.name)
promotions
  own := [move for move in moves if move.get("to_version") == model.version]
  all(move.model == model.ref for move in own)
  promoted := [(move, *evidence(move, e)) for move in own if move.step == "promoted"]
  not promoted or not model.simulation
  given := {item.ref: item for item in approvals}
  counted := {move.ref: [given[ref] for ref in move.approvals] for move, *_ in promoted}
  all(len({o.approved_by for o in some}) == len(some) for some in counted.values())
  all(o.evidence == move.evidence and o.approved_at <= move.moved_at
      for move, *_ in promoted for o in counted[move.ref])
  champions := [found for found in promoted if found[0].alias == "champion"]
  all(result and audit and len(counted[move.ref]) > 1 for move, result, audit, _ in champions)
  said := [{o.name: o for o in outcome(result, model).numbers} for _, result, _, _ in champions]
  reached := [(one[o.metric], o.floor) for one in said for o in plan.get("metric_floors", [])]
  all(floor <= one.low <= one.value <= one.high for one, floor in reached)
  all(result.level == 0.95 for _, result, _, _ in champions)
  all(audit.found.verdict == "PASS" or len(waiver.people) == 2 and waiver.waived_at <= move.moved_at
      < waiver.expires_at for move, _, audit, waiver in champions)
log.included
  all(is_at(sha256(b"\\0" + canonical(item.entry).encode()).digest(), item, checkpoint.log)
      for item in log)
  kinds := {item.entry.document: item.entry.kind for item in log}
  all(kinds.get(item.ref) == item.schema.split("/")[0] for item in documents)
log.order / log.order
  all(places[o.ref] < places[permit.ref] for o in [contract, plan, dpia, decision, *certificates])
  all(places[permit.ref] < places[o.ref] for o in renewals)
  chain := [places[o.ref] for o in [permit, *reports, result, *revocation]]
  sorted({*chain}) == chain
  all(chain[n] < places[a.receipt] < chain[n + 1] for n, o in enumerate(reports)
      for a in o.answered if a.receipt in places)
  result is model or places[model.ref] < min(places[plan.ref], places[permit.ref])
log.order
  all(places[model.ref] < places[o.ref] for o in [*audits, *waivers, *approvals, *own])
  all(places[o.evaluation] < places[o.ref] for o in audits if o.evaluation in places)
  done := [r.result for r in evaluations]
  lines := [[places[o.ref] for o in some]
            for some in ([*audits[:1], *waivers], moves, done, audits)]
  all(sorted({*line}) == line for line in lines)
  all(places[seen.ref] < places[ref] < places[o.ref] for o in own if o.step == "promoted"
      for seen in evidence(o, e) if seen
      for ref in o.approvals if ref in places)
  all(places[seen.ref] < places[o.ref] for o in own if o.step == "promoted"
      for seen in evidence(o, e) if seen)
  all([None, *(r for r in done if places[r.ref] < places[o.ref])][-1] == evidence(o, e)[0]
      for o in own if o.step == "promoted")
keys.in_time
  all(places[o.ref] < places[handovers[o.by]] for o in governed if o.by in handovers)
log.cosigned
  all(goes_on(item, item.proof, checkpoint.log) for item in cosigned)
  covering := {item.unit for item in cosigned if item.log.size > places[model.ref]}
  2 * len(covering) > len(permit.cohort)
log.seen
  all(goes_on(item, item.consistency, checkpoint.log) for item in positions)
  proved := {(item.log.size, item.log.root) for item in positions}
  all((item.log.size, item.log.root) in proved for r in runs for item in r.receipts)
log.one_history / log.one_history
  grown := by_unit(reports, receipts, "log")
  all(rise([*(log.size for log in found), checkpoint.log.size]) for found in grown.values())
log.one_history
  signed := [o.log for o in [checkpoint, *cosigned, *(o for r in runs for o in r.receipts)]]
  len({log.size for log in signed}) == len({(log.size, log.root) for log in signed})
"""
SKEW = timedelta(minutes=2)
STATED = {"issued_at", "registered_at", "revoked_at", "decided_at", "evaluated_at", "audited_at",
          "waived_at", "approved_at", "moved_at"}
DUTIES = {"submit": 0, "evaluate": 1, "advise": 2, "approve": 3, "approve_with_conditions": 3}
RATES = {"demographic_parity_difference": ["selection_rate"],
         "demographic_parity_ratio": ["selection_rate"],
         "equal_opportunity_difference": ["true_positive_rate"],
         "equalised_odds_difference": ["true_positive_rate", "false_positive_rate"],
         "predictive_parity_difference": ["positive_predictive_value"]}
POINT = re.compile(r"Art\. ?9\(2\) ?\([a-j]\)")
BROKEN = (ArithmeticError, AttributeError, EOFError, LookupError, NameError, OSError, RuntimeError,
          TypeError, ValueError, InvalidSignature, UnsupportedAlgorithm, zipfile.BadZipFile)

class Doc(dict[str, Any]):
    """A JSON object whose values are attributes, and those that are times, as times."""

    ref, by, member = "", "", ""  # of a signed one: its digest, and the key that signed it

    def __getattr__(self, name: str) -> Any:
        is_time = name[-3:] == "_at" or name in {"not_before", "valid_until", "effective_from"}
        return datetime.fromisoformat(self[name]) if is_time else self[name]

@contextmanager
def at(place: str) -> Iterator[None]:
    try:
        yield
    except BROKEN as error:
        raise ValueError(f"{place}: {str(error) or 'a signature is invalid'}") from error

def need(holds: object, sentence: str) -> None:
    if not holds:
        raise ValueError(sentence)

def canonical(value: Any) -> str:
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(n)}:{canonical(value[n])}" for n in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, float) and math.isfinite(value):
        text = repr(value).removesuffix(".0").replace("e-0", "e-")
        return f"{Decimal(text):f}" if 1e-6 <= abs(value) < 1e21 else text
    need(isinstance(value, str | None) or -(2**53) < value < 2**53, "a number is too large")
    return json.dumps(value, ensure_ascii=False)

def parse(data: bytes) -> Any:
    value = json.loads(data.decode(), object_hook=Doc)
    need(canonical(value).encode() == data, "it has another form, or says a key twice")
    return value

def digest(data: bytes) -> str:
    return "sha256:" + sha256(data).hexdigest()

def dsse(kind: str, payload: bytes) -> bytes:
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)

def unseal(sealed: Any, name: str, realm: str) -> Any:
    """Return the record in an envelope, verified with the key that it names."""
    [signature], version = sealed.signatures, 2 if ".dpia.v2." in sealed.payloadType else 1
    payload, sig = base64.b64decode(sealed.payload), base64.b64decode(signature.sig)
    kind = f"application/vnd.fedpact.{name}.v{version}.{realm}+json"
    texts = [base64.b64encode(item).decode() for item in (payload, sig)]
    whole = [{"keyid": signature.keyid, "sig": texts[1]}]
    need(sealed == {"payload": texts[0], "payloadType": kind, "signatures": whole}, f"no {name}")
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.keyid))
    key.verify(sig, dsse(kind, payload))
    record = parse(payload)
    record.ref, record.by = digest(payload), signature.keyid
    same = [record.schema, record.get("realm", realm)] == [f"{name}/{version}", realm]
    need(same, "it names another schema or realm")
    return record

def unpack(data: bytes) -> dict[str, bytes]:
    """Return the members of the one archive that has these bytes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
        large = [i for i in infos if i.file_size > 2**24 and i.filename != "model.safetensors"]
        total = max(len(data), sum(info.file_size for info in infos))
        need(not large and total <= 2**29 and len(infos) <= 100_001, "the bundle is too large")
        plain = all(i.compress_type == i.flag_bits == 0 and i.file_size == i.compress_size
                    for i in infos)
        need(plain, "a member is compressed or encrypted, or has flags")
        members = {info.filename: archive.read(info) for info in infos}
    with zipfile.ZipFile(again := io.BytesIO(), "w") as archive:
        for path in sorted(members):
            info = zipfile.ZipInfo(path)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, members[path])
    with at("manifest.json"):
        manifest = parse(members.pop("manifest.json"))
        listed = {item.path: item.digest for item in manifest.members}
    for path in sorted({*listed, *members}):
        same = path in members and listed.get(path) == digest(members[path])
        need(same, f"{path} was changed, added or left out")
    need(manifest.schema == "bundle/1" and list(listed) == sorted(members), "manifest.json differs")
    need(again.getvalue() == data, "bytes belong to no member")
    return members

def climb(fn: int, sn: int, first: bytes, proof: list[bytes]) -> tuple[str, str]:
    """Return the old and the new root that a proof leads to (RFC 9162, sections 2.1.3, 2.1.4)."""
    old = new = first
    for other in proof:
        need(sn, "the proof is too long")
        if fn % 2 or fn == sn:
            old, new = (sha256(b"\1" + other + item).digest() for item in (old, new))
            while fn and not fn % 2:
                fn, sn = fn // 2, sn // 2
        else:
            new = sha256(b"\1" + new + other).digest()
        fn, sn = fn // 2, sn // 2
    need(sn == 0, "the proof is too short")
    return old.hex(), new.hex()

def is_at(leaf: bytes, item: Any, log: Any) -> bool:
    proof = [bytes.fromhex(text) for text in item.proof]
    with at(item.member):
        found = 0 <= item.index < log.size and climb(item.index, log.size - 1, leaf, proof)[1]
        need(found == log.root, "it is not at this place of the log")
    return True

def goes_on(item: Any, proof: list[str], log: Any) -> bool:
    with at(item.member):
        need(continues(item.log, log, proof), "the log was rewritten since")
    return True

def continues(old: Any, new: Any, proof: list[str]) -> bool:
    if old.size in {0, new.size}:
        return not proof and old.root == (new.root if old.size else sha256().hexdigest())
    whole = [] if old.size & (old.size - 1) else [old.root]
    [first, *others] = map(bytes.fromhex, [*whole, *proof])
    fn, sn = old.size - 1, new.size - 1
    while fn % 2:
        fn, sn = fn // 2, sn // 2
    return old.size < new.size and climb(fn, sn, first, others) == (old.root, new.root)

def answers(reports: list[Any], receipts: list[Any]) -> list[tuple[Any, Any, Any]]:
    """Return each report's answers with their receipts, in the order of the chain."""
    known = {item.ref: item for item in receipts}
    found = [(report, item, known[item.receipt]) for report in reports for item in report.answered]
    need(all(item.unit == receipt.unit for _, item, receipt in found), "an answer is another's")
    return found

def checked(plan: Any, reports: list[Any]) -> Iterator[tuple[Any, str | None, bool]]:
    """Yield each report, with the model that a check compares with, and whether that ends it."""
    stop, best, missed = plan.get("early_stopping"), plan.get("initial_model"), 0
    for report in reports:
        check = stop and report.round < plan.rounds and report.round % (stop.every + 1) == 0
        compared, counts = best if check else None, check and report.status == "accepted"
        if counts:
            noise = plan.privacy.noise_multiplier * 1_000_000 / plan.privacy.sampling_rate
            least = 1.645 * noise * math.sqrt(len(report.answered))
            least = least / math.sqrt(plan.privacy.local_steps)
            better = sum(answer.get("gain", 0) for answer in report.answered) > least
            best, missed = (report.model_in, 0) if better else (best, missed + 1)
        yield report, compared, bool(counts and missed >= stop.patience)

def gain_of(report: Any, answer: Any) -> str | None:
    """Return the digest of a noised gain, or None where the answer has none."""
    if "gain" not in answer:
        return None
    place = {name: report[name] for name in ("run_id", "round", "attempt")}
    gain = {"schema": "noised-gain/1", **place, "unit": answer.unit, "gain": answer.gain}
    return digest(canonical(gain).encode())

def by_unit(reports: list[Any], receipts: list[Any], name: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for _, _, receipt in answers(reports, receipts):
        found.setdefault(receipt.unit, []).append(receipt[name])
    return found

def rise(values: list[Any]) -> bool:
    return all(one <= other for one, other in pairwise(values))

def terms_of(plan: Any) -> dict[str, Any]:
    """Return what a permit repeats of a plan to train, or to evaluate."""
    if "models" in plan:
        tries = 1 + plan.spare_exchanges
        some = {"kind": "evaluate", "rounds": 1, "attempts": tries, "exchanges": tries}
        return {**some, "delta": plan.delta}
    return {"kind": "train", "rounds": plan.rounds, "attempts": plan.attempts,
            "exchanges": plan.rounds + plan.spare_rounds, "delta": plan.privacy.delta}

def event_of(plan: Any) -> dict[str, Any]:
    """Return what an answer is charged."""
    if "models" in plan:
        tables = len(plan.models) + ("fairness" in plan)
        return {"adjacency": "add_remove_one", "mechanism": "discrete_laplace", "sampling_rate": 1,
                "l1_sensitivity": 1, "noise_multiplier": tables / plan.epsilon, "steps": tables}
    terms = plan.privacy
    return {"adjacency": "add_remove_one", "mechanism": "gaussian", "steps": terms.local_steps,
            "sampling_rate": terms.sampling_rate, "l2_sensitivity": terms.l2_clip_norm,
            "noise_multiplier": terms.noise_multiplier}

def imputes(field: Any, absent: Any) -> bool:
    if not isinstance(absent, Doc) or field.kind == "categorical":
        return not isinstance(absent, Doc) or absent.impute in field.categories
    return not isinstance(absent.impute, str) and field.lower <= absent.impute <= field.upper

def ends_of(dpia: Any, decision: Any) -> dict[str, datetime]:
    """Return the end of a DPIA's validity, and of its force if nobody acts."""
    valid, due = min(decision.valid_until, dpia.valid_until), dict[str, datetime]()
    for act in decision.acts:
        due |= {condition.id: condition.due_at for condition in act.get("conditions", [])}
        due = {name: end for name, end in due.items() if name not in act.get("fulfilled", [])}
    return {"valid": valid, "force": min([valid, *due.values()])}

def signed_as_stated(file: bytes, signature: bytes, pem: bytes, stated: str) -> bool:
    """Verify the OpenSSF signature of a file by the P-256 key that is stated."""
    need(stated.encode() == pem, "model-key.pem is another key")
    kind, hashed = "application/vnd.in-toto+json", sha256(file)
    content = {"sha256": sha256(hashed.digest()).hexdigest()}
    method = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []}
    resource = {"name": ".", "algorithm": "sha256", "digest": hashed.hexdigest()}
    payload = canonical({"_type": "https://in-toto.io/Statement/v1",
                         "subject": [{"name": "model.safetensors", "digest": content}],
                         "predicateType": "https://model_signing/signature/v1.0",
                         "predicate": {"serialization": method, "resources": [resource]}}).encode()
    with at("model.sig"):
        sig = (value := parse(signature)).dsseEnvelope.signatures[0].sig
        sealed = {"payload": base64.b64encode(payload).decode(), "payloadType": kind,
                  "signatures": [{"keyid": "", "sig": sig}]}
        hint = {"publicKey": {"hint": sha256(pem).hexdigest()}, "tlogEntries": []}
        need(value == {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                       "verificationMaterial": hint, "dsseEnvelope": sealed}, "of another model")
        key: Any = load_pem_public_key(pem)
        need(isinstance(key.curve, SECP256R1), "model-key.pem is no P-256 key")
        key.verify(base64.b64decode(sig), dsse(kind, payload), ECDSA(SHA256()))
    return True

def log_sum(logs: list[float]) -> float:
    return max(logs) + math.log(math.fsum(math.exp(item - max(logs)) for item in logs))

def log_phi(x: float) -> float:
    if x > -20:
        return math.log(math.erfc(-x / math.sqrt(2)) / 2)
    tail = math.log1p(-1 / x**2 + 3 / x**4 - 15 / x**6)
    return tail - x * x / 2 - math.log(-x * math.sqrt(2 * math.pi))

@lru_cache(maxsize=10_000)
def renyi(kind: str, q: float, s: float, a: float) -> float:
    """Return (a - 1) times the Renyi divergence of one step at order a."""
    if kind == "discrete_laplace":
        low = -math.log1p(math.exp(-1 / s))
        return log_sum([low + (a - 1) / s, low - a / s])
    if q == 1 or a == 1:
        return a * (a - 1) / (2 * s * s)
    logs, last, whole = list[float](), [math.inf] * 2, a == int(a)
    middle = s * s * math.log(1 / q - 1) + 0.5
    for i in range(int(a) + 1 if whole else 1000):
        j, c = a - i, math.lgamma(a + 1) - math.lgamma(i + 1) - math.lgamma(a - i + 1)
        terms = [(i, j, middle - i), (j, i, j - middle)][: 2 - whole]
        both = [c + m * math.log(q) + n * math.log1p(-q) + (m * m - m) / (2 * s * s)
                + (0 if whole else log_phi(x / s)) for m, n, x in terms]
        logs, falling, last = logs + both, all(map(float.__lt__, both, last)), both
        if not whole and falling and max(both) < log_sum(logs) - 30:
            break
    if whole:
        return log_sum(logs)
    low, high = renyi(kind, q, s, int(a)), renyi(kind, q, s, int(a) + 1)
    line = low + (a - int(a)) * (high - low)
    return line if a < 3 or len(logs) == 2000 else min(line, log_sum(logs))

def claim_of(receipts: list[Any], delta: float) -> float:
    """Return the claim of what receipts charged: the cap of the last order that lets it pass."""
    steps = Counter[Any]()
    for event in (item.event for item in receipts):
        steps[event.mechanism, event.sampling_rate, event.noise_multiplier] += event.steps

    def order(k: int) -> float:
        return 1 + 0.001 * math.pow(1023 / 0.001, k / 2**18)

    def passes(k: int) -> bool:
        a = order(k)
        spent = math.fsum(n * renyi(*step, a) for step, n in steps.items()) / (a - 1)
        return spent <= -a * math.log(delta * a) / (a - 1) ** 2

    first = bisect_left(range(2**18 + 1), True, key=lambda k: not passes(k))
    a = order(first - 1)
    cap = math.log1p(-1 / a) - (1 + a / (a - 1)) * math.log(delta * a) / (a - 1)
    return (max(0.0, cap) if first else math.inf) if steps else 0.0

def spent_as_stated(grant: Any, receipts: list[Any], stated: list[Any], delta: float) -> bool:
    own = [item for item in receipts if item.unit == grant.unit]
    said = {item.unit: item for item in stated}.get(grant.unit, Doc(claim=0, pld=0))
    claim, most = claim_of(own, delta), said.pld + 1e-6
    need(abs(said.claim - claim) <= 1e-6 and claim <= grant.epsilon + 1e-6, f"not {claim:.6f}")
    if own and all([o.event.mechanism, o.event.sampling_rate] == ["gaussian", 1] for o in own):
        # the exact delta of one Gaussian at the stated epsilon
        mu = math.sqrt(sum(item.event.steps / item.event.noise_multiplier**2 for item in own))
        spent = math.exp(log_phi(mu / 2 - most / mu))
        need(spent - math.exp(most + log_phi(-mu / 2 - most / mu)) <= delta, "the PLD value")
    return bool(0 <= said.pld <= claim + 1e-6)

def outcome(result: Any, model: Any) -> Any:
    own = [model.artifact, model.plan, model.name, model.version]
    [found] = [o for o in result.models if [o.artifact, o.plan, o.name, o.version] == own]
    return found

def groups_of(terms: Any, attribute: str) -> list[str]:
    """Return the groups of an attribute, or of several that are crossed."""
    found = [""]
    for name in attribute.split(" & "):
        [groups] = [item.groups for item in terms.attributes if item.name == name]
        into = {group: merge.merged for merge in terms.get("merges", [])
                if merge.attribute == name for group in merge.groups}
        parts = dict.fromkeys(into.get(group, group) for group in groups)
        need(len(found) * len(parts) <= 500, "there are more groups than an audit compares")
        found = [f"{one} & {part}".removeprefix(" & ") for one in found for part in parts]
    return found

def but_other(names: list[Any]) -> list[Any]:
    """Return what is compared: of two, one is all that the other is not; of one, nothing."""
    need(len(names) > 1, "there is nothing to compare with")
    return names[:1] if len(names) == 2 else names

def rates_of(metric: str, table: Any) -> list[str]:
    """Return the rates that a metric compares."""
    if "segments" in table:
        found = [f"share_of_segment_{number}" for number in but_other(table.segments)]
        return {"segment_share_difference": found}[metric]
    bands = [f"positives_in_band_{n}" for n in range(1, 3 + len(table.get("further_edges", [])))]
    return {**RATES, "calibration_difference": bands}[metric]

def counts_as_model(plan: Any, model: Any, file: bytes) -> bool:
    """Return whether what a plan counts is what the model tells: scores, or its very segments."""
    if "segments" not in plan:
        return model.kind in {"logistic", "mlp"} and plan.rows != "all"
    start = 8 + int.from_bytes(file[:8], "little")
    first, end = json.loads(file[8:start])["ids"]["data_offsets"]
    ids = [int.from_bytes(file[n : n + 8], "little") for n in range(start + first, start + end, 8)]
    whole = [len(plan.models), "fairness" in plan, model.kind] == [1, False, "centres"]
    return whole and bool(plan.segments.segments == ids)

def covers(dpia: Any, contract: Any, plan: Any, way: Any) -> bool:
    """Return whether a DPIA allows a plan's way of weighing or penalising by groups."""
    bound, attribute = dpia.bindings, way.attribute
    use, *_ = [item for item in bound.fairness_mitigation
               if item.attribute == attribute.name and "training" in item.uses]
    audited, *others = [[item.name, item.groups, item.get("edges")]
                        for item in (attribute, *bound.fairness_audit.attributes)]
    need(audited in others, "the mitigation's groups are none of the audit")
    need(attribute.name not in {item.field for item in plan.features}, "its attribute is an input")
    special = {item.name for item in contract.fields if item.sensitivity == "special"}
    special |= {name for item in dpia.get("inventory", []) if "special_category" in item
                for name in item.fields}
    if attribute.name in special:
        purposes = [item for item in dpia.get("purposes", []) if item.purpose == plan.purpose]
        need(POINT.search(use.get("special_condition", "")), "its use names no point of Art. 9(2)")
        need(any(POINT.search(item.get("special_condition", "")) for item in purposes), "no basis")
        need(any(attribute.name in item.attribute.split(" & ") for item in bound.fairness), "none")
    if way.kind == "reweighing":
        most = use.get("largest_weight", 1)
        return all(1 / most <= item.weight <= most for item in way.weights)
    slope = min(1, plan.algorithm.get("positive_weight", 1))
    pulls = [sum(item.strength * ((item.group == group) - item.share) for item in way.penalties)
             for group in attribute.groups]
    return max(map(abs, pulls)) <= slope and all(
        abs(item.strength) <= use.get("largest_strength", 0) for item in way.penalties)

def fits(item: Any, one: Any) -> bool:
    """Return whether the outcome of a comparison agrees with its interval."""
    inside = -item.largest_gap < one.low <= one.high < item.largest_gap
    beyond = one.low > item.largest_gap or one.high < -item.largest_gap
    return bool({"within": inside, "outside": beyond, "open": not inside}.get(one.outcome, True))

def follows(verdict: str, compared: list[Any]) -> bool:
    found = {one.outcome for one in compared}
    clear = "PASS" if found == {"within"} else "INSUFFICIENT"
    return verdict == ("FAIL" if "outside" in found else clear)

def moved_in_one_chain(moves: list[Any], name: str) -> bool:
    newest, piles = dict[str, Any](), dict[str, list[int]]()
    for move in moves:
        before, version = newest.get(move.alias, Doc(number=0)), move.get("to_version")
        told = [move.name, move.number, move.get("previous", ""), move.get("from_version")]
        need(told == [name, before.number + 1, before.ref, before.get("to_version")], "no chain")
        need(all(item.moved_at <= move.moved_at for item in newest.values()), "times fall")
        pile = piles.setdefault(move.alias, [])
        if move.step == "promoted":
            pile.append(version)
        else:
            need(version in [None, *pile[:-1]], "it goes back to a version that was not there")
            while pile and pile[-1] != version:
                pile.pop()
        newest[move.alias] = move
        held = [item.to_version for item in newest.values() if "to_version" in item]
        need(len({*held}) == len(held), "a version has two aliases at once")
    return True

def evidence(move: Any, e: Any) -> list[Any]:
    """Return the evaluation, audit and waiver, or None, that make up the evidence of a move."""
    results = [run.result for run in e.evaluations]
    for seen in product([None, *results], [None, *e.audits[:1]], [None, *e.waivers]):
        refs = [item and item.ref for item in (e.model, *seen)]
        if digest(canonical(refs).encode()) == move.evidence:
            return [*seen]
    raise ValueError("a promotion rests on evidence that is not here")

class Bundle:
    """The documents of a bundle, each opened under the key that may have signed it.

    `names` are what the rules call them; `runs` the training and the evaluations, by their own.
    """

    def __init__(self, data: bytes, pinned: str, realm: str) -> None:
        with at("bundle.members"):
            self.members = members = unpack(data)
            signing = {"model.sig", "model-key.pem", "model-key.json"} & {*members}
            need(len(signing) in {0, 3}, f"there is one of {sorted(signing)} alone")
            with at("model-version.json"):
                kind = parse(members["model-version.json"]).payloadType
        self.realm = realm or ("simulation" if ".simulation+" in kind else "production")
        self.documents, self.governed, self.keys = list[Any](), list[Any](), dict[str, Any]()
        names = Doc(realm=self.realm, artifact=members.pop("model.safetensors", b""),
                    signature=members.pop("model.sig", b""), pem=members.pop("model-key.pem", b""))
        self.keys = self.chain(pinned)
        self.runs = [self.opened("", RUN, self.opened("", TOP, Doc()))]
        for number in range(1, 1 + sum(path.endswith("/evaluation.json") for path in members)):
            folder = f"evaluations/{number:06}/"
            self.runs.append(self.opened(folder, RUN, self.opened(folder, EVALUATION, Doc())))
        training, *evaluations = self.runs
        names |= {**training, "runs": self.runs, "evaluations": evaluations, "e": names,
                  "documents": self.documents, "governed": self.governed, "trained": training.plan,
                  "sizes": {item.unit: item.public_n for item in training.plan.units},
                  "handovers": {key: ref for key, (end, ref) in self.keys.items() if end}}
        names["cosigned"] = self.opened("", COSIGNED, training).cosignatures
        for name in ("log", "positions"):
            names[name] = [item for _, item in self.taken(name)]
        falling = sorted(names.log, key=lambda item: -item.index)
        names["places"] = {item.entry.document: item.index for item in falling}
        self.names = names
        with at("bundle.members"):
            need(not members, f"{min(members, default='')} does not belong here")

    def taken(self, name: str) -> list[tuple[str, Any]]:
        """Return the parsed members of a name, or of the folder of that name, with their paths."""
        paths = sorted(path for path in self.members if path.startswith(f"{name}/"))
        expected = [f"{name}/{place:06}.json" for place in range(1, len(paths) + 1)]
        if name.rpartition("/")[2] in SINGLE or f"{name}.json" in self.members:
            expected = paths = [f"{name}.json"]
        with at("bundle.members"):
            need(paths == expected and {*paths} <= {*self.members}, f"{expected[-1:]} is missing")
            found = []
            for path in paths:
                with at(path):
                    value = parse(self.members.pop(path))
                    need({*value} == FORMS.get(name, {*value}), "it has other fields")
                    value.member = path
                    found.append((path, value))
        return found

    def opened(self, folder: str, table: str, run: Any) -> Any:
        """Return the run with the documents of a table, whose signatures hold."""
        for name, kind, check in map(str.split, table.split(",")):
            found: list[Any] = []
            for path, item in self.taken(folder + name):
                with at("evaluations.signed" if folder else check), at(path):
                    sealed = item.envelope if name in FORMS else item
                    other = "evaluation-plan" if folder and name == "plan" else kind
                    found.append(self.signed(unseal(sealed, other, self.realm), run))
                    found[-1].proof, found[-1].member = item.get("consistency"), path
            known = name.removeprefix("dpia-").removesuffix("-version").replace("-", "_")
            run[known] = found[0] if name in {*SINGLE, "model-key"} and found else found
            if name in {"model-version", "evaluation"}:
                made = "registered_at" if name == "model-version" else "evaluated_at"
                run["result"], run["made_at"] = found[0], getattr(found[0], made)
            if name == "certificates":
                with at("evaluations.signed" if folder else check):
                    run["units"] = self.units(run)
        if table == RUN:
            with at("evaluations.time" if folder else "dpia.time"):
                answered = [item.answered_at for item in run.receipts]
                run["moments"] = [*(item.ended_at for item in run.reports), *answered]
                run |= ends_of(run.dpia, run.decision)
        return run

    def signed(self, record: Any, run: Any) -> Any:
        """Return a record if it is signed by whom it must be."""
        kind = record.schema.partition("/")[0]
        if kind in {"plan", "evaluation-plan"}:
            need(record.by == run.permit.author_key, "it is signed by another key")
        elif kind == "round-report":
            need(record.by == run.permit.server_key, "it is signed by another key")
        elif kind in {"receipt", "cosignature"}:
            need(run.units.get(record.by) == record.unit, "it is signed by a stranger")
        elif kind != "key-handover":
            need(record.by in self.keys, "it is signed by a stranger")
            end, current = self.keys[record.by][0], kind in {"checkpoint", "model-key"}
            stated = [getattr(record, name) for name in STATED & {*record}]
            late = end and (current or max(stated, default=end) > end)
            need(not late, "it is signed by a retired key")
            self.governed.append(record)
        if kind not in {"checkpoint", "model-key", "cosignature"}:
            self.documents.append(record)
        return record

    def units(self, run: Any) -> dict[str, str]:
        """Return the units of a run's cohort by their keys."""
        granted = [(grant.unit, grant.node_key) for grant in run.permit.cohort]
        certified = [(item.unit, item.node_key) for item in run.certificates]
        need(len(dict(certified)) == len(certified), "a unit has two certificates")
        need({*granted} == {*certified}, "a certificate is missing, or of another unit or key")
        by_key = {key: unit for unit, key in granted}
        need(len(by_key) == len(dict(granted)) == len(granted), "a unit or key is there twice")
        return by_key

    def chain(self, key: str) -> dict[str, tuple[datetime | None, str]]:
        """Return governance's keys in their order, with the end of each and its hand-over."""
        steps, chain = dict[str, Any](), dict[str, Any]()
        with at("model.signed"):
            handovers = self.opened("", "handovers key-handover model.signed", Doc()).handovers
            for said in {item.ref: item for item in handovers}.values():
                accepted = unseal(said.acceptance, "key-acceptance", self.realm)
                same = all(said[name] == accepted[name] for name in {*accepted} - {"schema"})
                need(same and said.old_key == said.by != said.new_key == accepted.by, "invalid")
                need(said.by not in steps, "a key of governance has two successors")
                steps[said.by] = ((said.issued_at, said.ref), said.new_key)
            before = {new: old for old, (_, new) in steps.items()}
            need(len(before) == len(steps), "two keys of governance have one successor")
            while key in before:
                key = before.pop(key)
            while key in steps:
                chain[key], key = steps.pop(key)
            ends = [end for end, _ in chain.values()]
            need(key not in chain and ends == sorted(ends), "the hand-overs are in no order")
        return {**chain, key: (None, "")}

def checks() -> Iterator[tuple[str, list[str]]]:
    """Yield each check of the table with its rules."""
    for title, lines in re.findall(r"^(\S.*)\n((?:  .*\n)+)", RULES, re.MULTILINE):
        rules = re.sub(r"\s*\\?\n {6,}", " ", lines).split("\n")
        yield title, [rule.strip() for rule in rules if rule]

def follow(lines: list[str], names: dict[str, Any]) -> None:
    """Raise at the first rule that does not hold; rules with `:=` name what later ones use."""
    for line in lines:
        name, is_name, value = line.partition(" := ")
        found = eval(value if is_name else line, names)  # noqa: S307 - of the table above alone
        names |= {name: found} if is_name else {}
        need(is_name or found, line)

def check_bundle(data: bytes, key: str, realm: str = "") -> list[tuple[str, bool, str]]:
    """Return each check's name, whether it held, and what it found; of what cannot be read one."""
    try:
        bundle = Bundle(data, key, realm)
    except BROKEN as error:
        name, is_named, text = str(error).partition(": ")
        return [(name if is_named else "bundle.members", False, text or name)]
    found, shared = list[tuple[str, bool, str]](), {**globals(), **bundle.names}
    for title, rules in checks():
        name, for_each, other = title.partition(" / ")
        for run in bundle.runs if for_each else bundle.runs[:1]:
            check, names = (name if run is bundle.runs[0] else other), {**shared, **run}
            try:
                follow(rules, names if for_each else shared)
                found.append((check, True, ""))
            except BROKEN as error:
                found.append((check, False, str(error)))
    return found

if __name__ == "__main__":
    results = check_bundle(Path(sys.argv[1]).read_bytes(), *sys.argv[2:4])
    for name, ok, text in results:
        line = f"{'ok' if ok else 'FAILED':7}{name} {text}"
        sys.stdout.write(ascii(line)[1:-1] + "\n")  # a bundle's text must not steer a terminal
    sys.exit(0 if all(ok for _, ok, _ in results) else 1)
