"""Verify an evidence bundle offline: a second verifier, written from `evidence-bundle.md` alone.

    python verify_bundle.py BUNDLE KEY [production | simulation]

KEY is governance's public key, 64 hex digits. It needs Python 3.11 and `cryptography`, and nothing
of fedpact. Exit code 0: every check held. Checks have the names and the meaning of the format.
"""

import base64
import io
import json
import math
import sys
import zipfile
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property, lru_cache
from hashlib import sha256
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

# What a check asks for, the record's name, and so the member's: `kind.json`, or a folder.
SINGLE = {"model": "model-version", "permit": "permit", "plan": "plan", "contract": "contract",
          "dpia": "dpia", "decision": "dpia-decision", "checkpoint": "checkpoint"}
FOLDERS = {"certificates": "unit-certificate", "reports": "round-report", "receipts": "receipt",
           "renewals": "permit-renewal", "handovers": "key-handover"}
KINDS = {**SINGLE, **FOLDERS, "revocation": "revocation", "cosignatures": "cosignature",
         "model-key": "model-key"}
CHECKS = """lineage permit.terms plan.features dpia.bindings dpia.in_force permit.time
    permit.renewals dpia.time times reports.chain reports.cohort artifact artifact.signature
    receipts.complete receipts.terms opt_outs ledgers epsilon log.included log.order
    keys.in_time log.cosigned log.seen log.one_history"""
BROKEN = (ArithmeticError, LookupError, RecursionError, TypeError, ValueError, InvalidSignature,
          zipfile.BadZipFile, NotImplementedError, EOFError, AttributeError)
SKEW, STATED = timedelta(minutes=2), {"issued_at", "registered_at", "revoked_at", "decided_at"}
SHAPES = {"log": "entry index proof logged-document/1",
          "positions": "consistency log seen-position/1",
          "cosignatures": "consistency envelope cosigned-position/1"}
DUTIES = {"submit": 0, "evaluate": 1, "advise": 2, "approve": 3, "approve_with_conditions": 3}

class Doc(dict[str, Any]):
    """A JSON object whose values are attributes; those that are times, as times."""

    def __getattr__(self, name: str) -> Any:
        is_time = name[-3:] == "_at" or name in {"not_before", "valid_until", "effective_from"}
        return datetime.fromisoformat(self[name]) if is_time else self[name]

def _need(holds: object, sentence: str) -> None:
    if not holds:
        raise ValueError(sentence)

@contextmanager
def _naming(path: str) -> Iterator[None]:
    try:
        yield
    except BROKEN as error:
        raise ValueError(f"{path}: {str(error) or 'its signature is invalid'}") from error

def _canonical(value: Any) -> str:
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{_canonical(n)}:{_canonical(value[n])}" for n in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    if isinstance(value, float) and math.isfinite(value):
        text = repr(value).removesuffix(".0").replace("e-0", "e-")
        return f"{Decimal(text):f}" if 1e-6 <= abs(value) < 1e21 else text
    _need(isinstance(value, str) or -(2**53) < value < 2**53, "a number is too large")
    return json.dumps(value, ensure_ascii=False)

def _parse(data: bytes) -> Any:
    value = json.loads(data.decode(), object_hook=Doc)
    _need(_canonical(value).encode() == data, "it has another form, or says a key twice")
    return value

def _digest(data: bytes) -> str:
    return "sha256:" + sha256(data).hexdigest()

class Envelope:
    """A DSSE envelope and its path."""

    def __init__(self, path: str, value: Any) -> None:
        [signature], self.path, self.kind = value.signatures, path, value.payloadType
        self.signer, self.payload = signature.keyid, base64.b64decode(value.payload)
        self.sig, self.digest = base64.b64decode(signature.sig), _digest(self.payload)
        texts = [base64.b64encode(item).decode() for item in (self.payload, self.sig)]
        signatures = [{"keyid": self.signer, "sig": texts[1]}]
        whole = {"payload": texts[0], "payloadType": self.kind, "signatures": signatures}
        _need(value == whole, "it is no envelope")

    def open(self, name: str, key: str, realm: str, version: int = 1) -> Any:
        """Return the record after its signature by `key` was verified."""
        kind = f"application/vnd.fedpact.{name}.v{version}.{realm}+json"
        signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(self.payload), self.payload)
        with _naming(self.path):
            _need(self.kind == kind, f"it is no {name}/{version} of realm {realm}")
            _need(self.signer == key, "it is signed by another key")
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(self.sig, signed)
            value = _parse(self.payload)
            same = value.schema == f"{name}/{version}" and value.get("realm", realm) == realm
            _need(same, "it names another schema or realm")
        return value

def _pack(members: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(members):
            info = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, members[path])
    return buffer.getvalue()

def _unpack(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
        large = [i for i in infos if i.file_size > 2**24 and i.filename != "model.safetensors"]
        size = max(len(data), sum(info.file_size for info in infos))
        _need(not large and size <= 2**29 and len(infos) <= 100_001, "the bundle is too large")
        members = {info.filename: archive.read(info) for info in infos}
    with _naming("manifest.json"):
        listed = {i.path: i.digest for i in _parse(members.pop("manifest.json")).members}
    for path in sorted(listed.keys() | members):
        same = path in members and listed.get(path) == _digest(members[path])
        _need(same, f"{path} was changed, added or left out")
    whole = {"schema": "bundle/1", "members": [{"path": p, "digest": listed[p]} for p in members]}
    again = _pack({**members, "manifest.json": _canonical(whole).encode()})
    _need(again == data, "manifest.json was changed, or bytes belong to no member")
    return members

def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()

def _root(leaf: bytes, place: int, size: int, proof: Sequence[bytes]) -> bytes:
    """Return the root that a proof gives to leaf `place` of `size` (RFC 6962, section 2.1.1)."""
    _need(0 <= place < size and (size > 1) == bool(proof), "the proof has another length")
    if size == 1:
        return leaf
    split = 1 << (size - 1).bit_length() - 1
    if place < split:
        return _node(_root(leaf, place, split, proof[:-1]), proof[-1])
    return _node(proof[-1], _root(leaf, place - split, size - split, proof[:-1]))

def _roots(old: int, new: int, proof: Sequence[bytes], known: bytes) -> tuple[bytes, bytes]:
    """Return the two roots of a consistency proof (RFC 6962, section 2.1.2); `known` is the old."""
    if old == new:
        _need(len(proof) == (not known), "the proof has another length")
        return known or proof[0], known or proof[0]
    split = 1 << (new - 1).bit_length() - 1
    if old <= split:
        before, after = _roots(old, split, proof[:-1], known)
        return before, _node(after, proof[-1])
    before, after = _roots(old - split, new - split, proof[:-1], b"")
    return _node(proof[-1], before), _node(proof[-1], after)

def _verify_continues(old: Any, new: Any, proof: Sequence[str], path: str) -> None:
    with _naming(path):
        hashes, root = [bytes.fromhex(item) for item in proof], bytes.fromhex(old.root)
        if old.size == 0:
            _need(not proof and root == sha256().digest(), "it is not the empty log")
        else:
            found = old.size <= new.size and _roots(old.size, new.size, hashes, root)
            _need(found == (root, bytes.fromhex(new.root)), "the log was rewritten since")

class Evidence:
    """The documents of a bundle by name, each opened under the key that may have signed it."""

    def __init__(self, data: bytes, pinned: str, realm: str) -> None:
        members, self.found, self.pinned = _unpack(data), dict[str, list[Any]](), pinned
        self.artifact = members.pop("model.safetensors")
        signed = {"model.sig", "model-key.pem", "model-key.json"}
        _need(signed & {*members} in ({*()}, signed), f"there is one of {sorted(signed)} alone")
        self.signature = members.pop("model.sig", b"")
        self.pem = members.pop("model-key.pem", b"")
        for name in [*KINDS, "log", "positions"]:
            paths = [path for path in sorted(members) if path.startswith(f"{name}/")]
            expected = [f"{name}/{place:06}.json" for place in range(1, len(paths) + 1)]
            if name in SINGLE or f"{name}.json" in members:
                expected = paths = [f"{KINDS[name]}.json"]
            _need(paths == expected and {*paths} <= {*members}, f"{expected[-1:]} is missing")
            self.found[name] = [self._taken(name, path, members.pop(path)) for path in paths]
        _need(not members, f"{min(members, default='')} does not belong here")
        simulated = self.found["model"][0][2].kind.endswith(".simulation+json")
        self.realm = realm or ("simulation" if simulated else "production")
        self.places = {item.entry.document: item.index for _, item, _ in self.found["log"]}

    def _taken(self, name: str, path: str, data: bytes) -> tuple[str, Any, Envelope | None]:
        with _naming(path):
            value = _parse(data)
            form = " ".join([*sorted({*value} - {"schema"}), value.get("schema", "")])
            _need(SHAPES.get(name, form) == form, "it is no such document")
            if name == "log":
                _need(sorted(value.entry) == ["document", "kind", "salt", "schema"], "no entry")
            sealed = value.envelope if name == "cosignatures" else value
            return path, value, Envelope(path, sealed) if name in KINDS else None

    @cached_property
    def keys(self) -> dict[str, tuple[datetime | None, str]]:
        """Governance's keys in their order, each with the end of its time and its hand-over."""
        steps, key, chain = dict[str, Any](), self.pinned, dict[str, Any]()
        for item in {item.digest: item for _, _, item in self.found["handovers"]}.values():
            said = item.open("key-handover", item.signer, self.realm)
            inner = Envelope(item.path, said.acceptance)
            accepted = inner.open("key-acceptance", said.new_key, self.realm)
            same = all(said[name] == accepted[name] for name in {*accepted} - {"schema"})
            _need(same and said.old_key == item.signer != said.new_key, f"{item.path} is invalid")
            _need(item.signer not in steps, "a key of governance has two successors")
            steps[item.signer] = ((said.issued_at, item.digest), said.new_key)
        before = {new: old for old, (_, new) in steps.items()}
        _need(len(before) == len(steps), "two keys of governance have one successor")
        while key in before:
            key = before.pop(key)
        while key in steps:
            chain[key], key = steps.pop(key)
        ends = [end for end, _ in chain.values()]
        _need(key not in chain and ends == sorted(ends), "the hand-overs are in no order")
        return {**chain, key: (None, "")}

    @cached_property
    def units(self) -> dict[str, str]:
        """The cohort's units by their keys."""
        granted = [(grant.unit, grant.node_key) for grant in self.permit.cohort]
        certified = [(item.unit, item.node_key) for item in self.certificates]
        _need(len(dict(certified)) == len(certified), "a unit has two certificates")
        _need({*granted} <= {*certified}, "a certificate is missing, or of another key")
        by_key = {key: unit for unit, key in granted}
        _need(len(by_key) == len(dict(granted)) == len(granted), "a unit or key is there twice")
        return by_key

    def __getattr__(self, name: str) -> Any:
        records = self.all(name)
        self.__dict__[name] = records[0] if name in SINGLE else records
        return self.__dict__[name]

    def all(self, name: str) -> list[Any]:
        """Return all documents of a name, or raise."""
        return [self._open(name, item) for _, _, item in self.__dict__["found"][name]]

    def _open(self, name: str, item: Envelope) -> Any:
        version, kind, key = 2 if ".dpia.v2." in item.kind else 1, KINDS[name], item.signer
        if name in {"plan", "reports"}:
            key = self.permit.author_key if name == "plan" else self.permit.server_key
            return item.open(kind, key, self.realm)
        if name in {"receipts", "cosignatures"}:
            _need(key in self.units, f"{item.path} is signed by a stranger")
            record = item.open(kind, key, self.realm)
            _need(record.unit == self.units[key], f"{item.path} is signed by another unit's key")
            return record
        _need(key in self.keys, f"{item.path} is signed by a stranger")
        record, end = item.open(kind, key, self.realm, version), self.keys[key][0]
        stated = [getattr(record, field) for field in STATED & {*record}]
        late = end and (name in {"checkpoint", "model-key"} or max(stated, default=end) > end)
        _need(not late, f"{item.path} is signed by a retired key")
        return record

    def named(self, names: str) -> list[str]:
        """Return the digests of documents, believed or not."""
        return [item.digest for name in names.split() for _, _, item in self.found[name]]

    def digests(self, names: str) -> list[str]:
        """Return the digests of documents, all of which may be believed."""
        return self.named(names) if [getattr(self, name) for name in names.split()] else []

    def answers(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yield each report's answers with their receipts, in the order of the chain."""
        receipts = dict(zip(self.digests("receipts"), self.receipts, strict=True))
        for report in self.reports:
            for answer in report.answered:
                receipt = receipts.get(answer.receipt, Doc(unit=None))
                _need(receipt.unit == answer.unit, "a receipt is missing or falsely counted")
                yield report, answer, receipt

def _lineage(e: Evidence) -> bool:
    model, permit = e.model, e.permit
    [contract, dpia, decision] = e.digests("contract dpia decision")
    return (
        [model.permit, model.plan, model.contract, model.dpia]
        == [*e.digests("permit plan"), contract, dpia]
        and [permit.contract, permit.dpia, permit.dpia_decision] == [contract, dpia, decision]
        and [model.run_id, model.task, model.simulation]
        == [permit.run_id, permit.task, e.realm == "simulation"])

def _permit__terms(e: Evidence) -> bool:
    permit, plan, names = e.permit, e.plan, ("contract", "task", "purpose", "rounds", "attempts")
    bands = {item.unit: item.size_band for item in e.certificates}
    sizes = {item.unit: item.public_n for item in plan.units}
    return (
        [permit[name] for name in names] == [plan[name] for name in names]
        and [permit.kind, permit.run_id] == ["train", e.model.run_id]
        and [permit.plan] == e.digests("plan")
        and permit.exchanges == plan.rounds + plan.spare_rounds
        and permit.delta == plan.privacy.delta == e.model.delta
        and permit.minimum_cohort >= plan.minimum_units
        and all(sizes[item.unit] == bands[item.unit] * 3 // 2 for item in permit.cohort))

def _plan__features(e: Evidence) -> bool:
    fields = {field.name: field for field in e.contract.fields}
    for feature in e.plan.features:
        field, rule = fields[feature.field], feature.get("absent")
        value = rule.impute if isinstance(rule, Doc) else None
        fits = value is None or (
            value in field.categories if field.kind == "categorical"
            else not isinstance(value, str) and field.lower <= value <= field.upper)
        _need(fits and ("availability" in field) == (rule is not None), f"{field.name} if absent")
        _need(field.sensitivity == "none", f"{field.name} may not be an input")
    return e.plan.purpose in {purpose.id for purpose in e.contract.purposes}

def _dpia__bindings(e: Evidence) -> bool:
    permit, plan, bound, days = e.permit, e.plan, e.dpia.bindings, "update_retention_days"
    reviews = e.dpia.get("minimisation", [])
    refused = {review.field for review in reviews if review.verdict != "allowed"}
    return (
        [permit.task, permit.contract, permit.get("ledger_caps")]
        == [bound.task, bound.contract, bound.get("ledger_caps")]
        and permit.purpose in bound.purposes and plan.privacy.mode in bound.privacy_modes
        and {feature.field for feature in plan.features} <= {*bound.features} - refused
        and {grant.unit for grant in permit.cohort} <= {*bound.units}
        and max(grant.epsilon for grant in permit.cohort) <= bound.epsilon_cap
        and permit.get(days) in {None, bound.get(days)} and permit.delta <= bound.delta_cap
        and permit.minimum_cohort >= bound.minimum_units)

def _ends(e: Evidence) -> tuple[datetime, datetime]:
    """Return the end of the DPIA's validity, and of its force if nobody acts."""
    valid, due = min(e.decision.valid_until, e.dpia.valid_until), dict[str, datetime]()
    for act in e.decision.acts:
        due |= {condition.id: condition.due_at for condition in act.get("conditions", [])}
        due = {name: end for name, end in due.items() if name not in act.get("fulfilled", [])}
    return valid, min([valid, *due.values()])

def _dpia__in_force(e: Evidence) -> bool:
    decision, dpia, acts = e.decision, e.dpia, e.decision.acts
    line = acts[max((n for n, act in enumerate(acts) if act.act == "submit"), default=0):]
    done = [(DUTIES[act.act], act) for act in line if act.act in DUTIES]
    owners = {entity.id for entity in dpia.get("entities", [])
              if entity.role != "processor" and {*entity.units} & {*dpia.bindings.units}}
    bad = {act.get("entity") for _, act in done if act.get("verdict") == "unfavourable"}
    for duty, act in done:
        heard = bad if act.get("entity") is None else {act.entity, None} & bad
        _need(duty < 3 or not heard or "overruling_reason" in act, "approved against the advice")
        named = {other.get("entity") for kind, other in done if kind == duty}
        _need(duty < 2 or len(owners) < 2 or owners <= named, "a controller did not act")
    ending = {"reject", "suspend", "withdraw"}
    last = [act.act for act in line if act.act in {*ending, "resume"} or DUTIES.get(act.act) == 3]
    people, each = {(duty, act.actor) for duty, act in done}, max(1, len(owners))
    times = [*(act.acted_at for act in acts), decision.decided_at, e.permit.issued_at]
    return (
        [decision.state, decision.dpia] == ["in_force", *e.digests("dpia")]
        and [duty for duty, _ in done] == [0, 1, *[2] * each, *[3] * each]
        and last[-1] not in ending
        and len(people) == len({actor for _, actor in people})
        and times == sorted(times) and e.permit.issued_at < _ends(e)[1]
        and ("effective_from" not in dpia or dpia.effective_from <= decision.decided_at))

def _moments(e: Evidence) -> list[datetime]:
    return [item.ended_at for item in e.reports] + [item.answered_at for item in e.receipts]

def _permit__time(e: Evidence) -> bool:
    permit, moments, renewals = e.permit, _moments(e), e.renewals
    windows = [(permit.not_before, permit.expires_at)]
    windows += [(item.issued_at - SKEW, item.expires_at) for item in renewals]
    acts = [*moments, *(item.issued_at for item in renewals)]
    acts += [e.model.registered_at for _ in e.revocation]
    return (
        permit.not_before >= permit.issued_at - SKEW
        and all(any(start <= moment < end for start, end in windows) for moment in moments)
        and all([item.permit, item.run_id] == [*e.digests("permit"), permit.run_id]
                and max(acts) < item.revoked_at for item in e.revocation))

def _permit__renewals(e: Evidence) -> bool:
    named = [*e.digests("permit"), e.permit.run_id]
    return all([item.permit, item.run_id] == named for item in e.renewals)

def _dpia__time(e: Evidence) -> bool:
    valid, force = _ends(e)
    held = max(_moments(e)) < valid and e.permit.expires_at <= force
    return held and all(item.expires_at <= valid for item in e.renewals)

def _times(e: Evidence) -> bool:
    ends = [report.ended_at for report in e.reports]
    after = dict(zip(e.digests("reports"), ends, strict=True))
    for report, _, receipt in e.answers():
        start = after.get(report.get("previous_report"), receipt.answered_at) - SKEW
        _need(start <= receipt.answered_at <= report.ended_at + SKEW, "a receipt is out of time")
    order = [*ends, e.model.registered_at, e.checkpoint.issued_at]
    certified = all(item.issued_at <= e.permit.issued_at for item in e.certificates)
    return certified and all(earlier - SKEW <= later for earlier, later in pairwise(order))

def _reports__chain(e: Evidence) -> bool:
    models = [e.plan.initial_model, *(report.model_out for report in e.reports)]
    before = [None, *e.digests("reports")]
    places = [(1, 1), *((r.round + 1, 1) if r.status == "accepted" else (r.round, r.attempt + 1)
                        for r in e.reports)]
    told = [((r.round, r.attempt), r.get("previous_report"), r.model_in) for r in e.reports]
    return (
        told == [*zip(places, before, models, strict=True)][:-1]
        and places[-1] == (e.permit.rounds + 1, 1) and e.model.round_reports == before[1:]
        and all(r.status == "accepted" or r.model_in == r.model_out for r in e.reports)
        and {r.run_id for r in e.reports} == {e.permit.run_id})

def _reports__cohort(e: Evidence) -> bool:
    permit, cohort = e.permit, sorted(grant.unit for grant in e.permit.cohort)
    for report in e.reports:
        units, asked = [answer.unit for answer in report.answered], {*report.asked}
        _need(sorted(units + report.unavailable) == cohort, "a unit is not counted once")
        _need({*units} <= asked <= {*cohort}, "a stranger was asked, or answered")
        enough = report.status == "void" or len(units) >= permit.minimum_cohort
        _need(enough and report.attempt <= permit.attempts, "too few answers, or many attempts")
    once = all(len({*report.asked}) == len(report.asked) for report in e.reports)
    return once and len(e.reports) <= permit.exchanges

def _artifact(e: Evidence) -> bool:
    digest, start = _digest(e.artifact), 8 + int.from_bytes(e.artifact[:8], "little")
    with _naming("model.safetensors"):
        header = json.loads(e.artifact[8:start])
        spans = sorted(header[name]["data_offsets"] for name in header if name[:2] != "__")
        edges = [0, *(edge for span in spans for edge in span), len(e.artifact) - start]
        _need(edges == sorted(edges) and edges[::2] == edges[1::2], "it is no file of tensors")
        said = [*(report.get("released") for report in e.reports), e.model.artifact]
        _need(said == [None] * (len(said) - 2) + [digest] * 2, "it is not the released model")
    return bool(e.model.artifact_bytes == len(e.artifact))

def _artifact__signature(e: Evidence) -> bool:
    [stated], file, kind = e.all("model-key"), sha256(e.artifact), "application/vnd.in-toto+json"
    _need(stated.public_key.encode() == e.pem, "model-key.pem is another key")
    subject = {"name": "model.safetensors", "digest": {"sha256": sha256(file.digest()).hexdigest()}}
    method = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []}
    resource = {"name": ".", "algorithm": "sha256", "digest": file.hexdigest()}
    statement = {"_type": "https://in-toto.io/Statement/v1", "subject": [subject],
                 "predicateType": "https://model_signing/signature/v1.0",
                 "predicate": {"serialization": method, "resources": [resource]}}
    with _naming("model.sig"):
        value, payload = _parse(e.signature), _canonical(statement).encode()
        [signature], text = value.dsseEnvelope.signatures, base64.b64encode(payload).decode()
        sealed = {"payload": text, "payloadType": kind, "signatures": [{**signature, "keyid": ""}]}
        hint = {"publicKey": {"hint": sha256(e.pem).hexdigest()}, "tlogEntries": []}
        whole = {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                 "verificationMaterial": hint, "dsseEnvelope": sealed}
        _need(value == whole, "it is on another model, or by another key")
        signed = b"DSSEv1 %d %b %d " % (len(kind), kind.encode(), len(payload))
        key = load_pem_public_key(e.pem)
        if not isinstance(key, EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise TypeError("model-key.pem is no P-256 key")
        key.verify(base64.b64decode(signature.sig), signed + payload, ECDSA(SHA256()))
    return True

def _receipts__complete(e: Evidence) -> bool:
    answered = sorted(answer.receipt for report in e.reports for answer in report.answered)
    return answered == sorted(e.named("receipts")) == sorted(e.model.receipts)

def _receipts__terms(e: Evidence) -> bool:
    permit, terms, names = e.permit, e.plan.privacy, ("round", "attempt", "model_in")
    event = {"mechanism": "gaussian", "adjacency": "add_remove_one", "steps": terms.local_steps,
             "sampling_rate": terms.sampling_rate, "noise_multiplier": terms.noise_multiplier,
             "l2_sensitivity": terms.l2_clip_norm}
    same = {"permit": e.digests("permit")[0], "event": event}
    same |= {name: permit[name] for name in ("plan", "contract", "run_id")}
    sources = {"float64-os", "seeded-simulation" if e.realm == "simulation" else "float64-os"}
    for report, answer, receipt in e.answers():
        told = {**{name: report[name] for name in names}, "update": answer["update"]}
        _need(receipt.items() >= told.items(), f"{receipt.unit} and its report differ")
    return all(
        item.items() >= same.items() and item.applied_epoch >= permit.min_opt_out_epoch
        and item.noise_source in sources and item.software in permit.accepted_versions
        for item in e.receipts)

def _rising(e: Evidence, name: str, step: int, low: int = 0) -> dict[str, list[int]]:
    """Return each unit's values in accepted rounds; over all rounds they rise by `step` or more."""
    newest, counted = dict[str, int](), dict[str, list[int]]()
    for report, _, receipt in e.answers():
        unit, value = receipt.unit, receipt[name]
        _need(value >= max(newest.get(unit, -step) + step, low), f"{name} of {unit}")
        newest[unit] = value
        if report.status == "accepted":
            counted.setdefault(unit, []).append(value)
    return counted

def _opt_outs(e: Evidence) -> bool:
    counted = _rising(e, "applied_epoch", 0, e.permit.min_opt_out_epoch)
    stated = sorted([item.unit, item.epoch] for item in e.model.opt_out_epochs)
    return stated == sorted([unit, min(values)] for unit, values in counted.items())

def _ledgers(e: Evidence) -> bool:
    _rising(e, "ledger_sequence", 1)
    return len({item.order for item in e.receipts}) == len(e.receipts)

def _log_phi(x: float) -> float:
    if x > -20:
        return math.log(math.erfc(-x / math.sqrt(2)) / 2)
    tail = math.log1p(-1 / x**2 + 3 / x**4 - 15 / x**6)
    return tail - x * x / 2 - math.log(-x * math.sqrt(2 * math.pi))

def _log_sum(logs: Sequence[float]) -> float:
    return max(logs) + math.log(math.fsum(math.exp(item - max(logs)) for item in logs))

@lru_cache(maxsize=10_000)
def _renyi(q: float, s: float, a: float) -> float:
    """Return (a - 1) times the Renyi divergence of one step at order a."""
    if q == 1 or a == 1:
        return a * (a - 1) / (2 * s * s)
    logs, last, whole = list[float](), [math.inf] * 2, a == int(a)
    middle = s * s * math.log(1 / q - 1) + 0.5
    for i in range(int(a) + 1 if whole else 1000):
        j, c = a - i, math.lgamma(a + 1) - math.lgamma(i + 1) - math.lgamma(a - i + 1)
        terms = [(i, j, middle - i), (j, i, j - middle)][: 2 - whole]
        both = [c + m * math.log(q) + n * math.log1p(-q) + (m * m - m) / (2 * s * s)
                + (0 if whole else _log_phi(x / s)) for m, n, x in terms]
        logs, falling, last = logs + both, all(map(float.__lt__, both, last)), both
        if not whole and falling and max(both) < _log_sum(logs) - 30:
            break
    if whole:
        return _log_sum(logs)
    low, high = _renyi(q, s, int(a)), _renyi(q, s, int(a) + 1)
    line = low + (a - int(a)) * (high - low)
    return line if a < 3 or len(logs) == 2000 else min(line, _log_sum(logs))

def _claim(steps: int, q: float, s: float, delta: float) -> float:
    """Return the claim of so many equal steps: the cap of the last order that lets them pass."""
    def order(k: int) -> float:
        return 1 + 0.001 * math.pow(1023 / 0.001, k / 2**18)

    def passes(k: int) -> bool:
        a = order(k)
        return steps * _renyi(q, s, a) / (a - 1) <= -a * math.log(delta * a) / (a - 1) ** 2

    first = bisect_left(range(2**18 + 1), True, key=lambda k: not passes(k))
    a, log = order(first - 1), math.log(delta * order(first - 1))
    cap = math.log1p(-1 / a) - log / (a - 1) - a * log / (a - 1) ** 2
    return (max(0.0, cap) if first else math.inf) if steps else 0.0

def _epsilon(e: Evidence) -> bool:
    stated, delta = {item.unit: item for item in e.model.epsilon}, e.permit.delta
    for grant in e.permit.cohort:
        said = stated.pop(grant.unit, Doc(claim=0, pld=0))
        events = [item.event for item in e.receipts if item.unit == grant.unit]
        kinds = {(item.sampling_rate, item.noise_multiplier) for item in events} or {(1, 1)}
        _need(all(item.mechanism == "gaussian" for item in events), "another mechanism")
        [(q, s)], steps = kinds, sum(item.steps for item in events)
        claim, most, mu = _claim(steps, q, s, delta), said.pld + 1e-6, math.sqrt(steps) / s
        _need(abs(said.claim - claim) <= 1e-6 and claim <= grant.epsilon + 1e-6, f"not {claim:.6f}")
        _need(0 <= said.pld <= claim + 1e-6, "the PLD value is none")
        if q == 1 and steps:  # the exact delta of one Gaussian at the stated epsilon
            spent = math.exp(_log_phi(mu / 2 - most / mu))
            spent -= math.exp(most + _log_phi(-mu / 2 - most / mu))
            _need(spent <= delta, "the PLD value is below the exact one")
    return not stated and len({item.unit for item in e.model.epsilon}) == len(e.model.epsilon)

def _log__included(e: Evidence) -> bool:
    log, kinds = e.checkpoint.log, dict[str, str]()
    for path, item, _ in e.found["log"]:
        with _naming(path):
            leaf = sha256(b"\0" + _canonical(item.entry).encode()).digest()
            root = _root(leaf, item.index, log.size, [bytes.fromhex(text) for text in item.proof])
            _need(root.hex() == log.root, "the entry is not at this place of the log")
            kinds[item.entry.document] = item.entry.kind
    names = {*SINGLE, *FOLDERS, "revocation"} - {"checkpoint"}
    own = [(KINDS[name], item.digest) for name in names for _, _, item in e.found[name]]
    return all(kinds.get(digest) == kind for kind, digest in own)

def _log__order(e: Evidence) -> bool:
    chain, places = [*e.named("permit"), *e.digests("reports"), *e.named("model")], e.places
    pairs = [(digest, chain[0]) for digest in e.named("contract plan dpia decision certificates")]
    pairs += [(chain[0], digest) for digest in e.named("renewals")]
    pairs += [*pairwise(chain), *((chain[-1], digest) for digest in e.named("revocation"))]
    for place, report in enumerate(e.reports):
        for digest in {answer.receipt for answer in report.answered} & {*e.named("receipts")}:
            pairs += pairwise([chain[place], digest, chain[place + 1]])
    return all(places[earlier] < places[later] for earlier, later in pairs)

def _keys__in_time(e: Evidence) -> bool:
    _need(e.checkpoint, "the log is not believed")
    ends = {key: handover for key, (end, handover) in e.keys.items() if end}
    names = {*KINDS} - {"plan", "checkpoint", "reports", "receipts", "handovers", "cosignatures"}
    signed = [item for name in names for _, _, item in e.found[name] if item.signer in ends]
    return all(e.places[item.digest] < e.places[ends[item.signer]] for item in signed)

def _log__cosigned(e: Evidence) -> bool:
    for (path, item, _), record in zip(e.found["cosignatures"], e.cosignatures, strict=True):
        _verify_continues(record.log, e.checkpoint.log, item.consistency, path)
    [place] = [e.places[digest] for digest in e.named("model")]
    covering = {item.unit for item in e.cosignatures if item.log.size > place}
    return 2 * len(covering) > len(e.permit.cohort)

def _log__seen(e: Evidence) -> bool:
    for path, item, _ in e.found["positions"]:
        _verify_continues(item.log, e.checkpoint.log, item.consistency, path)
    proved = {(item.log.size, item.log.root) for _, item, _ in e.found["positions"]}
    return all((item.log.size, item.log.root) in proved for item in e.receipts)

def _log__one_history(e: Evidence) -> bool:
    sizes = dict[str, int]()
    for _, _, receipt in e.answers():
        rises = sizes.get(receipt.unit, 0) <= receipt.log.size <= e.checkpoint.log.size
        _need(rises, f"the log that {receipt.unit} saw has shrunk")
        sizes[receipt.unit] = receipt.log.size
    seen = {(item.log.size, item.log.root) for item in [*e.receipts, *e.cosignatures, e.checkpoint]}
    return len(dict(seen)) == len(seen)

def check_bundle(data: bytes, key: str, realm: str = "") -> list[tuple[str, bool, str]]:
    """Return each check's name, whether it held, and what it found; of an unreadable file one."""
    try:
        evidence = Evidence(data, key, realm)
    except BROKEN as error:
        return [("bundle.members", False, str(error))]
    found = [("bundle.members", True, "")]
    signed = [f"{name}.signed" for name in (*SINGLE, "certificates", "reports", "receipts")]
    for name in (*signed, *CHECKS.split()):
        try:
            attribute = "units" if name == "certificates.signed" else name.removesuffix(".signed")
            check = globals().get("_" + name.replace(".", "__"), attrgetter(attribute))
            found.append((name, bool(check(evidence)), ""))
        except BROKEN as error:
            found.append((name, False, str(error)))
    return found

if __name__ == "__main__":
    results = check_bundle(Path(sys.argv[1]).read_bytes(), *sys.argv[2:4])
    for name, ok, text in results:
        sys.stdout.write(f"{'ok' if ok else 'FAILED':7}{name} {text}\n")
    sys.exit(0 if all(ok for _, ok, _ in results) else 1)
