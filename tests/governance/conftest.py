"""A small world around the real service: real keys, real database, a clock that stands still."""

import hashlib
import importlib.util
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from safetensors.numpy import save
from sqlalchemy import MetaData, select

from fedcore.bulletins import (
    Bulletin,
    BulletinRequest,
    BulletinV1,
    HeadClaim,
    LogPosition,
)
from fedcore.canonical import digest
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.dpia_record import Dpia
from fedcore.dpia_sections import LegalEntity
from fedcore.dpias import ActDetails, Bindings, DpiaAct
from fedcore.gateway_http import HttpGateway
from fedcore.learning_rules import Algorithm
from fedcore.opt_out_batches import OptOutBatch, batch_of
from fedcore.opt_out_history import HistoryRequest
from fedcore.optouts import OptOutEvent
from fedcore.permits import Enrolment, Permit
from fedcore.plans import Feature, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.record import Realm, Record
from fedcore.rounds import Answer, Cosignature, Receipt, RoundReport
from fedcore.signing import Envelope, SigningKey, open_envelope, sign_record
from governance.accounts import bootstrap
from governance.app import create_app
from governance.settings import GovernanceSettings
from registry.database import Database, migrate
from simulations.assessment import (
    WRITTEN,
    make_inventory,
    make_minimisation,
    make_purposes,
    make_retention,
    make_screening,
)
from simulations.transport import AsgiTransport

_FILE = Path(__file__).with_name("evaluating.py")
_SPEC: Any = importlib.util.spec_from_file_location("governance_evaluating", _FILE)
_EVALUATING: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["governance_evaluating"] = _EVALUATING
_SPEC.loader.exec_module(_EVALUATING)

R = TypeVar("R", bound=Record)
START = datetime(2025, 6, 1, 12, tzinfo=UTC)
UNITS = ("north", "south")
NAMES = {
    "compliance": "carla",
    "author": "anna",
    "evaluator": "emil",
    "dpo": "dora",
    "approver": "paul",
    "operator": "otto",
    "auditor": "ada",
    "unit_operator": "nora",
}
STEPS: tuple[tuple[DpiaAct, str], ...] = (
    ("submit", "author"),
    ("evaluate", "evaluator"),
    ("advise", "dpo"),
    ("approve", "approver"),
)
INITIAL = save({"w": np.zeros(2)})
MODEL = save({"w": np.ones(2)})


@dataclass
class Clock:
    """A time that moves only when it is told to."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def tick(self, **amount: float) -> None:
        self.now += timedelta(**amount)


@dataclass
class World:
    """Governance with its people and two units; steps return what governance answered."""

    clock: Clock
    settings: GovernanceSettings
    governance_key: str
    client: httpx.Client
    admin_key: str
    keys: dict[str, SigningKey] = field(default_factory=dict)
    api_keys: dict[str, str] = field(default_factory=dict)

    def sign(self, record: Record, signer: str) -> Envelope:
        return sign_record(record, self.keys[signer], self.settings.realm)

    def gateway(self, role: str | None = None) -> HttpGateway:
        return HttpGateway(self.client, self.api_keys[role] if role else None)

    def get(self, path: str, role: str) -> Any:
        headers = {"Authorization": f"Bearer {self.api_keys[role]}"}
        return self.client.get(path, headers=headers).json()

    def people(self) -> None:
        self.api_keys["admin"] = self.admin_key
        for role, name in NAMES.items():
            self.keys[role] = SigningKey.generate()
            public = self.keys[role].public if role in {"author", "operator"} else None
            unit = UNITS[0] if role == "unit_operator" else None
            self.api_keys[role] = self.gateway("admin").create_account(name, role, public, unit)

    def enrolment(self, unit: str, **changes: Any) -> Enrolment:
        key = self.keys.setdefault(unit, SigningKey.generate())
        values = {
            "unit": unit,
            "legal_entity": f"{unit} ltd",
            "node_key": key.public,
            "size_band": 1024,
            "subject_namespace": "crm",
            "requested_at": START,
        }
        return Enrolment(**{**values, **changes})

    def enrol(self, unit: str) -> Envelope:
        enrolment = self.enrolment(unit)
        return self.gateway("compliance").enrol(self.sign(enrolment, unit))

    def dpia(self, **changes: Any) -> Dpia:
        bindings = Bindings(
            task="churn",
            purposes=("churn_prediction",),
            contract=contract().digest,
            features=("tenure",),
            units=UNITS,
            privacy_modes=("local",),
            epsilon_cap=3.0,
            delta_cap=1e-5,
            minimum_units=2,
        )
        values = {**assessed(UNITS), "bindings": bindings}
        return Dpia(**{**values, **changes})

    def act(self, reference: str, act: DpiaAct, role: str) -> str:
        """Do an act, and in an advice be in favour; return the state that follows."""
        details = ActDetails(verdict="favourable") if act == "advise" else None
        return self.gateway(role).act_on_dpia(reference, act, "read", details)

    def take_into_force(self, dpia: Dpia) -> str:
        reference = self.gateway("author").create_dpia(dpia)
        for act, role in STEPS:
            self.act(reference, act, role)
        return reference

    def plan(self, **changes: Any) -> TrainingPlan:
        values = {
            "title": "Churn",
            "task": "churn",
            "purpose": "churn_prediction",
            "contract": contract().digest,
            "features": (Feature(field="tenure", encoding="scale"),),
            "units": tuple(UnitTerms(unit=unit, public_n=1536) for unit in UNITS),
            "minimum_units": 2,
            "model": ModelSpec(kind="logistic"),
            "initial_model": digest(INITIAL),
            "algorithm": Algorithm(local_learning_rate=1.0),
            "rounds": 2,
            "spare_rounds": 1,
            "privacy": PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=8.0, delta=1e-5),
        }
        return TrainingPlan(**{**values, **changes})

    def register(self, plan: TrainingPlan) -> str:
        return self.gateway("author").register_plan(self.sign(plan, "author"))

    def ready(self) -> None:
        """Everything up to the permit: people, units, contract, DPIA in force, plan."""
        self.people()
        for unit in UNITS:
            self.enrol(unit)
        self.gateway("compliance").publish_contract(contract())
        self.take_into_force(self.dpia())
        self.register(self.plan())

    def permit(self, run_id: str = "run-1", plan: TrainingPlan | None = None) -> Permit:
        chosen = plan or self.plan()
        envelope = self.gateway("operator").request_permit(chosen.digest, run_id)
        return self.open(envelope, Permit)

    def open(self, envelope: Envelope, record_type: type[R]) -> R:
        return open_envelope(envelope, record_type, self.governance_key, self.settings.realm)

    def opt_out(self, unit: str, sequence: int, **changes: Any) -> OptOutEvent:
        values = {
            "unit": unit,
            "sequence": sequence,
            "pseudonym": hashlib.sha256(f"{unit}{sequence}".encode()).hexdigest(),
            "key_version": 1,
            "purpose": "marketing",
            "channel": "web",
            "ground": "art21_2",
            "received_at": self.clock.now,
        }
        return OptOutEvent(**{**values, **changes})

    def batch(self, unit: str, first: int, count: int = 3, **changes: Any) -> OptOutBatch:
        """Return a batch of events that `opt_out` would make."""
        numbers = range(first, first + count)
        return batch_of(unit, first, 1, [self.opt_out(unit, n, **changes).entry for n in numbers])

    def history_request(self, unit: str, **changes: Any) -> HistoryRequest:
        values = {"unit": unit, "after_sequence": 0, "requested_at": self.clock.now}
        return HistoryRequest(**{**values, **changes})

    def bulletin_request(self, unit: str, **changes: Any) -> BulletinRequest:
        values = {
            "unit": unit,
            "nonce": secrets.token_hex(32),
            "after_sequence": 0,
            "checkpoint_size": 0,
            "head": HeadClaim(sequence=0, hash="00" * 32, since=0, body_digests=()),
            "requested_at": self.clock.now,
        }
        return BulletinRequest(**{**values, **changes})

    def bulletin(self, unit: str, **changes: Any) -> BulletinV1:
        """Return a bulletin as nodes of version 0.2 ask for it."""
        request = self.sign(self.bulletin_request(unit, **changes), unit)
        return self.open(self.gateway().sync_bulletin(request), BulletinV1)

    def newest_bulletin(self, unit: str, **changes: Any) -> Bulletin:
        """Return a bulletin as nodes ask for it now."""
        request = self.bulletin_request(unit, answer="bulletin/2", **changes)
        return self.open(self.gateway().sync_bulletin(self.sign(request, unit)), Bulletin)

    def receipt(
        self, permit: Permit, unit: str, number: int, attempt: int = 1, **changes: Any
    ) -> Receipt:
        plan = self.plan()
        bulletin = self.bulletin(unit)
        values = {
            "run_id": permit.run_id,
            "realm": permit.realm,
            "unit": unit,
            "round": number,
            "attempt": attempt,
            "order": digest(f"{unit}{number}{attempt}{permit.run_id}".encode()),
            "permit": permit.digest,
            "plan": plan.digest,
            "contract": plan.contract,
            "applied_epoch": bulletin.epoch,
            "bulletin": bulletin.digest,
            "snapshot": "ab" * 32,
            "event": plan.round_event(),
            "noise_source": "seeded-simulation" if permit.realm == "simulation" else "float64-os",
            "ledger_sequence": number * 10 + attempt,
            "ledger_hash": "cd" * 32,
            "log": bulletin.log,
            "model_in": digest(INITIAL) if number == 1 else digest(b"round-1"),
            "update": digest(f"update {unit}{number}".encode()),
            "software": "test-1",
            "answered_at": self.clock.now,
        }
        return Receipt(**{**values, **changes})

    def report(
        self, receipts: list[Receipt], previous: RoundReport | None = None, **changes: Any
    ) -> RoundReport:
        first = receipts[0]
        last = first.round == 2
        values = {
            "run_id": first.run_id,
            "realm": first.realm,
            "round": first.round,
            "attempt": first.attempt,
            "status": "accepted",
            "asked": UNITS,
            "answered": tuple(
                Answer(unit=r.unit, receipt=r.digest, update=r.update) for r in receipts
            ),
            "unavailable": (),
            "model_in": first.model_in,
            "model_out": digest(b"round-2") if last else digest(b"round-1"),
            "previous_report": previous.digest if previous else None,
            "released": digest(MODEL) if last else None,
            "ended_at": self.clock.now,
        }
        return RoundReport(**{**values, **changes})

    def submit(self, report: RoundReport, receipts: list[Receipt]) -> None:
        signed = [self.sign(receipt, receipt.unit) for receipt in receipts]
        self.gateway("operator").submit_round(self.sign(report, "operator"), signed)

    def round(self, permit: Permit, number: int, previous: RoundReport | None) -> RoundReport:
        receipts = [self.receipt(permit, unit, number) for unit in UNITS]
        report = self.report(receipts, previous)
        self.submit(report, receipts)
        return report

    def run(self, run_id: str = "run-1") -> Permit:
        """A whole run of two rounds."""
        permit = self.permit(run_id)
        self.round(permit, 2, self.round(permit, 1, None))
        return permit

    def stored(self) -> bytes:
        """All that the database holds: its files, or every row of every table."""
        database = Database(self.settings.database_url)
        with database.reading() as session:
            tables = MetaData()
            tables.reflect(session.connection())
            every = (session.connection().execute(select(t)).all() for t in tables.sorted_tables)
            rows = repr(list(every)).encode()
        folder = database.folder
        database.close()
        files = [] if folder is None else sorted(folder.glob("governance*.db*"))
        return b"".join([rows, *(path.read_bytes() for path in files)])

    def cosign(self) -> None:
        """Both units have seen the log as it is now."""
        signed = [self.cosignature(unit, self.bulletin(unit).log) for unit in UNITS]
        self.gateway("operator").submit_cosignatures(signed)

    def cosignature(self, unit: str, position: LogPosition) -> Envelope:
        record = Cosignature(unit=unit, log=position, seen_at=self.clock.now)
        return self.sign(record, unit)


def assessed(units: tuple[str, ...]) -> dict[str, Any]:
    """What a complete DPIA says besides its bindings: one controller for all units."""
    controller = LegalEntity(
        id="company", name="Company", role="controller", contact="c", units=units
    )
    return {
        **WRITTEN,
        "dpia_id": "churn-dpia",
        "version": 1,
        "title": "Churn",
        "entities": (controller,),
        "screening": make_screening(),
        "inventory": make_inventory(contract()),
        "purposes": make_purposes(contract(), ("churn_prediction",)),
        "minimisation": make_minimisation(contract(), ("tenure",)),
        "retention": make_retention(contract()),
        "valid_until": START + timedelta(days=300),
    }


def contract(**changes: Any) -> Contract:
    values = {
        "contract_id": "telco",
        "version": 1,
        "title": "Telco",
        "source": "public",
        "subject": SubjectRule(column="id", namespace="crm", normaliser="trim-upper/1"),
        "fields": (
            ContractField(name="tenure", kind="numeric", lower=0, upper=72),
            ContractField(name="religion", kind="numeric", lower=0, upper=9, sensitivity="special"),
        ),
        "label": Label(name="churned", positive="Yes", negative="No", horizon_days=30),
        "purposes": (
            Purpose(id="marketing", text="Marketing", basis="legitimate_interests"),
            Purpose(
                id="churn_prediction",
                text="Churn",
                parent="marketing",
                basis="legitimate_interests",
            ),
        ),
        "retention_days": 365,
    }
    return Contract(**{**values, **changes})


@dataclass(frozen=True)
class Beginning:
    """What a world begins with: a database to copy (a file, or a name at the PostgreSQL server),
    the service's key, what its people have, what time it is, and what the last step has returned.
    """

    database: str
    signing_key: SigningKey
    admin_key: str
    keys: dict[str, SigningKey]
    api_keys: dict[str, str]
    now: datetime
    result: Any


# What a fixture of the name makes of a world that is ready; the second argument gives fixtures. A
# file of tests may have `BEGINNINGS` of its own.
Step = Callable[[World, Callable[[str], Any]], Any]


def train_two(world: World, give: Callable[[str], Any]) -> dict[str, Any]:
    """Train models with rows set aside in run-1 and run-2; return them."""
    made = give("evaluating_in")(world)
    made.train("run-1", give("model_bytes"))
    made.train("run-2", save({"w": np.full(2, 2.0)}))
    return dict(made.trained)


Opened = tuple[httpx.Client, Callable[[], None]]
Server = Callable[[FastAPI], Opened]


def in_process(app: FastAPI) -> Opened:
    """The application without a socket."""
    client = httpx.Client(transport=AsgiTransport(app), base_url="http://governance")
    return client, client.close


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database file with the real schema, to copy from."""
    path = tmp_path_factory.mktemp("schema") / "governance.db"
    migrate(f"sqlite:///{path}")
    return str(path)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def backend(request: pytest.FixtureRequest) -> str:
    """The kind of database: SQLite, and where it matters PostgreSQL (CONTRIBUTING.md says where).

    A test that is about one kind by its nature names it: `parametrize("backend", ["sqlite"])`.
    """
    kind: str = request.param
    return kind


@pytest.fixture
def fresh_url(
    request: pytest.FixtureRequest, backend: str, tmp_path: Path
) -> Callable[[str | None], str]:
    """Makes a database of the test's kind, a copy of another or migrated, and returns its URL."""
    if backend == "postgresql":
        new_url = request.getfixturevalue("new_url")
        migrated_name = request.getfixturevalue("migrated_name")
        return lambda original: str(new_url(original or migrated_name))
    migrated_file = request.getfixturevalue("migrated_file")
    numbers = count()

    def copy(original: str | None) -> str:
        path = tmp_path / f"governance{next(numbers) or ''}.db"
        shutil.copyfile(original or migrated_file, path)
        return f"sqlite:///{path}"

    return copy


@pytest.fixture
def realm() -> Realm:
    """The realm of the test's worlds; a test that is about production has a fixture of its own."""
    return Realm.SIMULATION


@pytest.fixture
def make_world(
    tmp_path: Path, fresh_url: Callable[[str | None], str], realm: Realm
) -> Iterator[Callable[..., World]]:
    """Makes a world on a fresh database of the test's kind; all are closed at the end."""
    closers: list[Callable[[], None]] = []

    def make(
        begun: Beginning | None = None,
        server: Server = in_process,
        *,
        first_admin: bool = True,
        **changes: Any,
    ) -> World:
        url = fresh_url(begun.database if begun else None)
        key = begun.signing_key if begun else SigningKey.generate()
        key.save(tmp_path / "governance.pem")
        values = {
            "database_url": url,
            "signing_key": tmp_path / "governance.pem",
            "realm": realm,
            "accepted_versions": ("test-1",),
        }
        settings = GovernanceSettings(**{**values, **changes})
        if begun is None:
            database = Database(url)
            admin_key = bootstrap(database, START) if first_admin else ""
            database.close()
        clock = Clock(begun.now if begun else START)
        client, close = server(create_app(settings, clock))
        closers.append(close)
        if begun is None:
            return World(clock, settings, key.public, client, admin_key)
        people = (begun.admin_key, dict(begun.keys), dict(begun.api_keys))
        return World(clock, settings, key.public, client, *people)

    yield make
    for close in closers:
        close()


@pytest.fixture(scope="session")
def beginnings() -> dict[tuple[str, Realm, str], Beginning]:
    """Worlds to begin from, by kind of database, realm and step; filled when asked for."""
    return {}


@pytest.fixture
def begin(
    request: pytest.FixtureRequest,
    backend: str,
    realm: Realm,
    beginnings: dict[tuple[str, Realm, str], Beginning],
    make_world: Callable[..., World],
) -> Callable[..., Beginning]:
    """Gives what a world has after a step, which is made once per kind: `people`, `ready`, or one
    of a name of its own that is done to a world that is ready.
    """
    give = request.getfixturevalue

    def after(name: str, step: Step | None = None) -> Beginning:
        if (backend, realm, name) not in beginnings:
            made = make_world() if step is None else make_world(after("ready"))
            result = getattr(made, name)() if step is None else step(made, give)
            made.client.close()
            if backend == "postgresql":
                database = give("keep_url")(made.settings.database_url)
            else:
                database = str(give("tmp_path_factory").mktemp("begun") / "governance.db")
                shutil.copyfile(made.settings.database_url.removeprefix("sqlite:///"), database)
            key = SigningKey.load(made.settings.signing_key)
            made.settings.signing_key.unlink()  # it lies where the test's own world keeps its key
            has = (made.admin_key, made.keys, made.api_keys, made.clock.now, result)
            beginnings[backend, realm, name] = Beginning(database, key, *has)
        return beginnings[backend, realm, name]

    return after


@pytest.fixture
def ready(begin: Callable[..., Beginning]) -> Beginning:
    """People, units, contract, DPIA in force and a registered plan, made once per kind."""
    return begin("ready")


@pytest.fixture
def world(request: pytest.FixtureRequest, make_world: Callable[..., World], begin: Any) -> World:
    """Governance with its people, units, contract, DPIA in force and a registered plan, and with
    what a fixture of the test begins with.
    """
    for name, step in getattr(request.module, "BEGINNINGS", {}).items():
        if name in request.fixturenames:
            return make_world(begin(f"{request.module.__name__}: {name}", step))
    if "evaluating" in request.fixturenames:
        return make_world(begin("evaluating", train_two))
    return make_world(begin("ready"))


@pytest.fixture
def evaluating_in() -> Any:
    """Makes what it takes to evaluate in a world."""
    return _EVALUATING.Evaluating


@pytest.fixture
def evaluating(world: World, evaluating_in: Any, begin: Any) -> Any:
    """A world in which run-1 and run-2 have trained models with rows set aside."""
    return evaluating_in(world, dict(begin("evaluating", train_two).result))


@pytest.fixture
def model_bytes() -> bytes:
    """The model that the worlds' runs release."""
    return bytes(MODEL)
