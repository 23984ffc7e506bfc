"""Small whole worlds: a contract of four fields, units of some forty customers, a few rounds.

A world is made once, and copied and opened again for each test. Keys of pseudonyms and of the split
are fixed, so that two worlds with the same customers sum the same ones in the same order, to the
bit.
"""

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from flwr.app import Message, RecordDict

from clients.pseudonyms import check_of
from fedcore import canonical, merkle, wire
from fedcore.bulletins import LogPosition
from fedcore.bundle import read_bundle
from fedcore.clusterings import CourseSpec, SegmentCount
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.dpias import FairnessBound
from fedcore.encodings import input_names
from fedcore.errors import InvalidRecordError
from fedcore.evaluations import EvaluatedModel, EvaluationPlan
from fedcore.fairness_bindings import AuditTerms, SensitiveAttribute
from fedcore.learning_rules import Algorithm
from fedcore.models import ModelVersion
from fedcore.permits import Permit, public_n_of
from fedcore.plans import Feature, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.record import Realm
from fedcore.rounds import Answer, Cosignature, Order, Receipt, RoundReport
from fedcore.signing import Envelope, SigningKey, sign_record
from fedcore.tasks.task import first_model as placed_model
from fedcore.tasks.task import initial_weights, load_task
from fedcore.version import VERSION
from fedcore.weights import encode_weights
from governance.app import create_app
from governance.settings import GovernanceSettings
from simulations.clock import ManualClock
from simulations.federation import Federation, Terms, Unit, UnitSetup
from simulations.grid import InProcessGrid
from simulations.noise import SeededNoise
from simulations.paperwork import make_dpia
from simulations.transport import AsgiTransport

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
UNITS = ("north", "south", "west")
PURPOSE = "churn-prediction"
PARENT = "direct-marketing"
OTHER = "service-quality"
COLUMNS = ("customer_id", "tenure", "charge", "product", "channel", "churn")


def make_contract() -> Contract:
    """Return a contract of two numbers and two categories, with a tree of three purposes."""
    return Contract(
        contract_id="small",
        version=1,
        title="Customers of a small world",
        source="synthetic",
        subject=SubjectRule(column="customer_id", namespace="crm", normaliser="trim-upper/1"),
        fields=(
            ContractField(name="tenure", kind="numeric", lower=0, upper=72),
            ContractField(name="charge", kind="numeric", lower=0, upper=150, missing_value=0),
            ContractField(name="product", kind="categorical", categories=("basic", "plus", "pro")),
            ContractField(name="channel", kind="categorical", categories=("shop", "web")),
        ),
        label=Label(name="churn", positive="yes", negative="no", horizon_days=90),
        purposes=(
            Purpose(id=PARENT, text="Direct marketing", basis="legitimate_interests"),
            Purpose(id=PURPOSE, text="Churn", parent=PARENT, basis="legitimate_interests"),
            Purpose(id=OTHER, text="Service quality", basis="legitimate_interests"),
        ),
        retention_days=365,
    )


def make_rows(unit: str, count: int) -> pl.DataFrame:
    """Return a unit's customers as text cells, the same ones each time."""
    seed = int.from_bytes(hashlib.sha256(unit.encode()).digest()[:4], "big")
    draw = np.random.default_rng(seed)
    tenure, charge = draw.integers(0, 73, count), draw.uniform(0, 150, count).round(2)
    churn = draw.uniform(size=count) < 1 / (1 + np.exp(tenure / 20 - charge / 60))
    return pl.DataFrame(
        {
            "customer_id": [f"{unit[0].upper()}{number:03d}" for number in range(count)],
            "tenure": [str(value) for value in tenure],
            "charge": [str(value) for value in charge],
            "product": draw.choice(["basic", "plus", "pro"], count).tolist(),
            "channel": draw.choice(["shop", "web"], count).tolist(),
            "churn": ["yes" if value else "no" for value in churn],
        }
    )


def make_plan(units: tuple[str, ...] = UNITS, **changes: Any) -> TrainingPlan:
    """Return a plan of three rounds over the units; `changes` replace its parts."""
    contract = make_contract()
    features = (
        Feature(field="tenure", encoding="scale"),
        Feature(field="charge", encoding="log"),
        Feature(field="product", encoding="onehot"),
        Feature(field="channel", encoding="onehot"),
    )
    model = ModelSpec(kind="logistic")
    first = initial_weights(load_task("churn"), model, len(input_names(features, contract)))
    values: dict[str, Any] = {
        "title": "A small plan",
        "task": "churn",
        "purpose": PURPOSE,
        "contract": contract.digest,
        "features": features,
        "units": tuple(UnitTerms(unit=unit, public_n=public_n_of(32)) for unit in units),
        "minimum_units": 2,
        "model": model,
        "initial_model": canonical.digest(encode_weights(first)),
        "algorithm": Algorithm(local_learning_rate=0.5, average_last=2),
        "rounds": 3,
        "spare_rounds": 1,
        "round_deadline_s": 60,
        "privacy": PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=4.0, delta=1e-5),
    }
    return TrainingPlan(**{**values, **changes})


COURSE = CourseSpec(segments=SegmentCount(least=2, most=3), spread=6, searches=1, refinements=1)


def make_segment_plan(units: tuple[str, ...] = UNITS[:2], **changes: Any) -> TrainingPlan:
    """Return a plan of four releases over the units, around centres of two features."""
    model = ModelSpec(kind="centres", course=COURSE)
    features = (Feature(field="tenure", encoding="scale"), Feature(field="charge", encoding="log"))
    first = encode_weights(placed_model("segmentation", model, len(features)))
    privacy = PrivacyTerms(l2_clip_norm=COURSE.l2_sensitivity, noise_multiplier=4.0, delta=1e-5)
    values: dict[str, Any] = {
        "title": "Small segments",
        "task": "segmentation",
        "features": features,
        "model": model,
        "initial_model": canonical.digest(first),
        "algorithm": None,
        "rounds": COURSE.terms.releases,
        "privacy": privacy,
    }
    return make_plan(units, **{**values, **changes})


SEGMENT_GROUPS = (
    SensitiveAttribute(name="channel", groups=("shop", "web")),
    SensitiveAttribute(name="product", groups=("basic", "plus", "pro")),
)


def allow_segments(world: "World") -> "World":
    """Put a DPIA in force that is about segments, beside that of churn; it binds an audit by
    channel and by product.
    """
    dpia = make_dpia(world.plan, world.federation.contract, 50.0, START)
    metric = "segment_share_difference"
    bound = {
        "fairness": tuple(
            FairnessBound(attribute=each.name, metric=metric, largest_gap=0.9)
            for each in SEGMENT_GROUPS
        ),
        "fairness_audit": AuditTerms(attributes=SEGMENT_GROUPS, minimum_size=1),
    }
    changes = {"dpia_id": "segments", "bindings": dpia.bindings.model_copy(update=bound)}
    world.federation.put_in_force(dpia.model_copy(update=changes))
    return world


class KeptFederation(Federation):
    """A federation that leaves the people's API keys in a file, so that it can be opened again."""

    def _open_accounts(self) -> None:
        super()._open_accounts()
        keys = {role: office._headers["Authorization"][7:] for role, office in self.offices.items()}
        (self.root / "people.json").write_text(json.dumps(keys))
        self.author_key.save(self.root / "author.pem")
        (self.root / "made-in").write_text(str(self.root))


class ReopenedFederation(Federation):
    """The same federation in a new process, or a copy of it at another place: from its files."""

    def _open_governance(self) -> tuple[SigningKey, AsgiTransport]:
        home = self.root / "governance"
        settings = GovernanceSettings(
            database_url=f"sqlite:///{home / 'governance.db'}",
            signing_key=home / "governance.pem",
            realm=Realm.SIMULATION,
            accepted_versions=(VERSION,),
            bulletin_valid_s=self.terms.bulletin_valid_s,
            permit_valid_s=self.terms.permit_valid_s,
        )
        return SigningKey.load(settings.signing_key), AsgiTransport(
            create_app(settings, self.clock.now)
        )

    def _open_accounts(self) -> None:
        keys = json.loads((self.root / "people.json").read_text())
        self.offices = {role: self.gateway(key) for role, key in keys.items()}
        self.author_key = SigningKey.load(self.root / "author.pem")
        self.server_key = SigningKey.load(self.root / "server" / "server.pem")

    def open_unit(self, setup: UnitSetup) -> Unit:
        """Take a unit over that was enrolled before."""
        unit = Unit(setup, self.root / "units" / setup.unit, self)
        self.units[setup.unit] = unit
        return unit


@dataclass
class World:
    """A federation with one plan that is registered; steps return what came of them."""

    federation: Federation
    clock: ManualClock
    plan: TrainingPlan
    reports: list[RoundReport] = field(default_factory=list)

    def run(self, run_id: str = "run-1", watch: Any = lambda report: None) -> None:
        """Do a run; `watch` is told each report, and none again when a run goes on."""

        def note(report: RoundReport, _model: bytes) -> None:
            if report not in self.reports:
                self.reports.append(report)
                watch(report)

        self.federation.run(self.plan.digest, run_id, note)

    def unit(self, name: str) -> Unit:
        """Return a unit by its name."""
        return self.federation.units[name]

    def evaluation_plan(self, *versions: int, **changes: Any) -> EvaluationPlan:
        """Return a plan to evaluate registered versions, or the first; `changes` replace parts."""
        operator = self.federation.offices["operator"]
        models = []
        for number in versions or (1,):
            evidence = read_bundle(operator.fetch_evidence("churn", number))
            found = ModelVersion.from_bytes(evidence.model_version.payload_bytes)
            models.append(EvaluatedModel(artifact=found.artifact, plan=found.plan))
        values: dict[str, Any] = {
            "title": "How well the small model does",
            "models": tuple(models),
            "rows": "holdout",
            "epsilon": 2.0,
            "delta": self.plan.delta,
            "minimum_units": 2,
        }
        return EvaluationPlan(**{**values, **changes})

    def bundle(self) -> bytes:
        """Return the evidence of the first registered model."""
        return self.federation.offices["compliance"].fetch_evidence("churn", 1)

    def updates(self) -> dict[tuple[str, int], str]:
        """Return the digest of every accepted update by unit and round."""
        return {
            (answer.unit, report.round): answer.update
            for report in self.reports
            for answer in report.answered
        }

    def model(self) -> str:
        """Return the digest of the model that the run released."""
        return str(self.reports[-1].released)

    def close(self) -> None:
        """End the federation."""
        self.federation.close()


class Server:
    """A federation server that sends what it is told to; a node's code or reply comes back."""

    def __init__(self, world: World, run_id: str = "run-1") -> None:
        self.world = world
        self.federation = world.federation
        self.run_id = run_id
        self.key = world.federation.server_key
        operator = world.federation.offices["operator"]
        self.permit_envelope = operator.request_permit(world.plan.digest, run_id)
        self.permit = Permit.from_bytes(self.permit_envelope.payload_bytes)
        self.plan = world.federation.sign_plan(world.plan)
        self.initial = first_model(world.plan)

    def order(self, unit: str, **changes: Any) -> Order:
        """Return the first round's order for a unit; `changes` replace its fields."""
        now = self.world.clock.now()
        values: dict[str, Any] = {
            "run_id": self.run_id,
            "realm": Realm.SIMULATION,
            "unit": unit,
            "round": 1,
            "attempt": 1,
            "permit": self.permit.digest,
            "plan": self.world.plan.digest,
            "model": canonical.digest(self.initial),
            "issued_at": now,
            "deadline_at": now + timedelta(seconds=60),
        }
        return Order(**{**values, **changes})

    def request(self, order: Order, key: SigningKey | None = None, **changes: Any) -> Any:
        """Return the train request of an order; `changes` replace its parts."""
        request = wire.TrainRequest(
            order=sign_record(order, key or self.key, Realm.SIMULATION),
            permit=self.permit_envelope,
            plan=self.plan,
            previous_report=None,
            cosignatures=self.cosignatures(),
            model=self.initial,
        )
        return replace(request, **changes)

    def cosignatures(self) -> tuple[Envelope, ...]:
        """Return what every unit would cosign before it has seen the log."""
        nothing = LogPosition(size=0, root=merkle.root_hash([]).hex())
        signed = []
        for name, unit in self.federation.units.items():
            try:
                key = SigningKey.load(unit.state_dir / "node.pem")
            except InvalidRecordError:
                continue
            view = Cosignature(unit=name, log=nothing, seen_at=self.world.clock.now())
            signed.append(sign_record(view, key, Realm.SIMULATION))
        return tuple(signed)

    def train(self, unit: str, request: Any = None) -> Any:
        """Send a train request; returns the reply or the reason code."""
        sent = request or self.request(self.order(unit))
        message = self.send(unit, wire.TRAIN, wire.train_content(sent))
        if message.has_error():
            return wire.read_refusal(message).code
        return wire.read_train_reply(message.content)

    def call_roll(self, unit: str, **changes: Any) -> str:
        """Call one unit; returns `present` or the reason code."""
        request = wire.RollCallRequest(permit=self.permit_envelope, plan=self.plan)
        content = wire.roll_call_content(replace(request, **changes))
        message = self.send(unit, wire.ROLL_CALL, content)
        return wire.read_refusal(message).code if message.has_error() else "present"

    def send(self, unit: str, kind: str, content: RecordDict) -> Message:
        """Send a unit a message and return the reply."""
        message = Message(content, self.federation.node_id(unit), kind, ttl=60, group_id="1")
        return next(iter(self.federation.grid.send_and_receive([message])))

    def report(self, units: Sequence[str], **changes: Any) -> RoundReport:
        """Return the report of an accepted first round that left the model as it was."""
        some = canonical.digest(b"")
        values: dict[str, Any] = {
            "run_id": self.run_id,
            "realm": Realm.SIMULATION,
            "round": 1,
            "attempt": 1,
            "status": "accepted",
            "asked": tuple(units),
            "answered": tuple(Answer(unit=unit, receipt=some, update=some) for unit in units),
            "unavailable": (),
            "model_in": canonical.digest(self.initial),
            "model_out": canonical.digest(self.initial),
            "ended_at": self.world.clock.now(),
        }
        return RoundReport(**{**values, **changes})


def first_model(plan: TrainingPlan) -> bytes:
    """Return the public model that a plan starts from."""
    width = len(input_names(plan.features, make_contract()))
    return encode_weights(placed_model(plan.task, plan.model, width))


def members_of(bundle: bytes) -> dict[str, bytes]:
    """Return the files of a bundle."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def receipts_of(bundle: bytes) -> list[Receipt]:
    """Return the receipts of a bundle in their order."""
    members = sorted(members_of(bundle).items())
    found = [Envelope.from_bytes(data) for name, data in members if name.startswith("receipts/")]
    return [Receipt.from_bytes(envelope.payload_bytes) for envelope in found]


def setup_of(unit: str, rows: pl.DataFrame, **changes: Any) -> UnitSetup:
    """Return a unit of the small world; `changes` replace its policy."""
    values: dict[str, Any] = {"size_band": 32, "epsilon_cap": 50.0, "faulty_rows": "refuse"}
    return UnitSetup(unit=unit, rows=rows, **{**values, **changes})


def make_template(root: Path, *, checked: bool = True) -> None:
    """Make a federation with three enrolled units, checked or not yet, and a DPIA in force."""
    federation = KeptFederation(root, make_contract(), ManualClock(START), SeededNoise(1))
    try:
        for unit in UNITS:
            enrolled = federation.enrol(setup_of(unit, make_rows(unit, 40)))
            fixed = hashlib.sha256(unit.encode())
            (enrolled.state_dir / "pseudonym.key").write_text(fixed.hexdigest())
            (enrolled.state_dir / "pseudonym.check").write_text(check_of(fixed.digest()))
            (enrolled.state_dir / "split.key").write_text(fixed.hexdigest())
            (enrolled.state_dir / "split.key").chmod(0o600)
            if checked:
                enrolled.check()
        federation.put_in_force(make_dpia(make_plan(), federation.contract, 50.0, START))
    finally:
        federation.close()


def copy_world(template: Path, root: Path) -> None:
    """Copy a closed federation to another place; its settings then name the new one."""
    shutil.copytree(template, root)
    server = root / "server" / "server.toml"
    server.write_text(server.read_text().replace((root / "made-in").read_text(), str(root)))
    (root / "made-in").write_text(str(root))


def open_world(
    root: Path,
    plan: TrainingPlan,
    rows: Mapping[str, pl.DataFrame] | None = None,
    seed: int = 1,
    at: datetime = START,
    **policy: Any,
) -> World:
    """Open the federation that lies in `root`, and register the plan.

    `rows` replace those of a unit, `policy` changes the settings of all units.
    """
    clock = ManualClock(at)
    federation = ReopenedFederation(root, make_contract(), clock, SeededNoise(seed), Terms())
    for name in (terms.unit for terms in plan.units):
        given = (rows or {}).get(name, make_rows(name, 40))
        unit = federation.open_unit(setup_of(name, given, **policy))
        unit.write_rows(given)
        federation._write_node_settings(unit)
    nodes = {2 + number: unit.settings for number, unit in enumerate(federation.units.values())}
    federation.grid = InProcessGrid(nodes, federation.surroundings)
    federation.register(plan)
    return World(federation, clock, plan)
