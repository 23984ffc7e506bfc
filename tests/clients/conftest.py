"""A unit's small world on paper: one contract, one plan, one key, and customers as text."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from clients import runtime
from clients.data import Examples, Inputs, load_examples
from clients.group_intake import take_in_for_group
from clients.group_keys import create_group_key, join_group
from clients.pseudonyms import Pseudonymiser
from clients.settings import NodeSettings
from clients.site import Site
from clients.sources import Source, source_of
from clients.state import StateDir
from clients.statements import Statement
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.learning_rules import Algorithm
from fedcore.permits import NodeGrant, Permit
from fedcore.plans import Feature, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.privacy.noise import KeyStream
from fedcore.record import Realm
from fedcore.rounds import Order
from fedcore.signing import SigningKey
from simulations.clock import ManualClock
from simulations.federation import Federation, UnitSetup
from simulations.noise import SeededNoise

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
COLUMNS = ("customer_id", "tenure", "charges", "plan", "gender", "churn")
Row = dict[str, str]


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.wall, self.boot_id, self.boot_s = START, "boot-1", 1000.0

    def now(self) -> datetime:
        return self.wall

    def boot(self) -> tuple[str, float]:
        return self.boot_id, self.boot_s

    def tick(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.boot_s += seconds


def digest_of(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def start() -> datetime:
    return START


@pytest.fixture(scope="session")
def today() -> date:
    return START.date()


@pytest.fixture(scope="session")
def digest() -> Callable[[str], str]:
    """A digest of a text, where a document needs some digest."""
    return digest_of


@pytest.fixture(scope="session")
def stream() -> Callable[[str], KeyStream]:
    """A key stream by a name: the same name gives the same numbers."""
    return lambda name: KeyStream(hashlib.sha256(name.encode()).digest())


@pytest.fixture(scope="session")
def contract() -> Contract:
    return Contract(
        contract_id="customers",
        version=1,
        title="Customers",
        source="The public price list.",
        subject=SubjectRule(
            column="customer_id", namespace="customer-number", normaliser="trim-upper/1"
        ),
        fields=(
            ContractField(name="tenure", kind="numeric", lower=0, upper=72),
            ContractField(name="charges", kind="numeric", lower=-10, upper=190, missing_value=40),
            ContractField(name="plan", kind="categorical", categories=("basic", "plus", "max")),
            ContractField(
                name="gender",
                kind="categorical",
                categories=("female", "male"),
                sensitivity="sensitive",
            ),
        ),
        label=Label(name="churn", positive="Yes", negative="No", horizon_days=30),
        purposes=(
            Purpose(id="marketing", text="Marketing", basis="legitimate_interests"),
            Purpose(id="retention", text="Keep customers", parent="marketing", basis="consent"),
            Purpose(id="analytics", text="Analytics", basis="consent"),
        ),
        retention_days=365,
    )


@pytest.fixture(scope="session")
def features() -> tuple[Feature, ...]:
    return (
        Feature(field="tenure", encoding="edges", edges=(0, 6, 24, 72)),
        Feature(field="charges", encoding="scale"),
        Feature(field="charges", encoding="log"),
        Feature(field="plan", encoding="onehot"),
    )


@pytest.fixture(scope="session")
def pseudonymiser(contract: Contract) -> Pseudonymiser:
    return Pseudonymiser(bytes(range(32)), contract.subject)


@pytest.fixture(scope="session")
def plan(contract: Contract, features: tuple[Feature, ...]) -> TrainingPlan:
    return TrainingPlan(
        title="Churn",
        task="churn",
        purpose="retention",
        contract=contract.digest,
        features=features,
        units=(UnitTerms(unit="north", public_n=48), UnitTerms(unit="south", public_n=96)),
        minimum_units=2,
        model=ModelSpec(kind="logistic"),
        initial_model=digest_of("initial"),
        algorithm=Algorithm(local_learning_rate=0.5),
        rounds=3,
        spare_rounds=1,
        privacy=PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=8.0, delta=1e-5),
    )


@pytest.fixture(scope="session")
def permit(plan: TrainingPlan, contract: Contract) -> Permit:
    key = SigningKey.generate().public
    return Permit(
        run_id="run-1",
        realm=Realm.PRODUCTION,
        plan=plan.digest,
        contract=contract.digest,
        dpia=digest_of("dpia"),
        dpia_decision=digest_of("decision"),
        task=plan.task,
        purpose=plan.purpose,
        cohort=tuple(NodeGrant(unit=terms.unit, node_key=key, epsilon=3.0) for terms in plan.units),
        minimum_cohort=2,
        author_key=key,
        server_key=key,
        rounds=plan.rounds,
        exchanges=plan.exchanges,
        attempts=plan.attempts,
        delta=plan.privacy.delta,
        min_opt_out_epoch=10,
        accepted_versions=("0.1.0", "0.2.0"),
        issued_at=START,
        not_before=START,
        expires_at=START + timedelta(days=1),
    )


@pytest.fixture(scope="session")
def order_of() -> Callable[..., Order]:
    """An order of a run, by round and attempt."""

    def of(round_: int = 1, attempt: int = 1, **changes: str) -> Order:
        values: dict[str, Any] = {
            "run_id": "run-1",
            "realm": Realm.PRODUCTION,
            "unit": "north",
            "round": round_,
            "attempt": attempt,
            "permit": digest_of("permit"),
            "plan": digest_of("plan"),
            "model": digest_of(f"model {round_}"),
            "issued_at": START,
            "deadline_at": START + timedelta(minutes=10),
            **changes,
        }
        return Order(**values)

    return of


@pytest.fixture(scope="session")
def node_settings() -> Callable[..., NodeSettings]:
    """Settings of a production node, with changes."""

    def of(**changes: object) -> NodeSettings:
        values: dict[str, Any] = {
            "unit": "north",
            "state_dir": Path("state"),
            "source": Path("customers.csv"),
            "governance_url": "http://127.0.0.1:9",
            "governance_key": "ab" * 32,
            "subject_namespace": "customer-number",
            "epsilon_cap": 4.0,
            "delta": 1e-5,
            "size_band": 32,
            "purposes": ("retention",),
            **changes,
        }
        return NodeSettings(**values)

    return of


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    """Eight sound customers."""
    cells = [
        ("C1", "3", "70.5", "basic", "female", "Yes"),
        ("C2", "40", "20", "plus", "male", "No"),
        ("C3", "71", "", "max", "female", "No"),
        ("C4", "0", "-10", "basic", "male", "Yes"),
        ("C5", "72", "190", "plus", "female", "No"),
        ("C6", "12.5", "99.99", "max", "male", "Yes"),
        ("C7", "24", "1e1", "basic", "female", "No"),
        ("C8", "6", "0", "plus", "male", "Yes"),
    ]
    return [dict(zip(COLUMNS, row, strict=True)) for row in cells]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write rows to a new CSV or Parquet file and return its path."""
    folder, numbers = tmp_path_factory.mktemp("sources"), itertools.count()

    def write(found: list[Row], columns: tuple[str, ...] = COLUMNS, suffix: str = ".csv") -> Path:
        path = folder / f"customers-{next(numbers)}{suffix}"
        frame = pl.DataFrame(found, schema=dict.fromkeys(columns, pl.String))
        frame.write_csv(path) if suffix == ".csv" else frame.write_parquet(path)
        return path

    return write


@pytest.fixture(scope="session")
def examples_of(
    contract: Contract, features: tuple[Feature, ...], pseudonymiser: Pseudonymiser
) -> Callable[..., Examples]:
    """The Examples of a source, without the customers of these pseudonyms."""

    def of(source: Path, excluded: frozenset[str] = frozenset()) -> Examples:
        return load_examples(
            Source(source),
            contract,
            Inputs(features),
            pseudonymiser,
            excluded.__contains__,
            START.date(),
        )

    return of


@pytest.fixture(scope="session")
def made_federation(
    contract: Contract, start: datetime, rows: list[Row]
) -> Callable[[Path], AbstractContextManager[Federation]]:
    """Makes a real governance and one unit, north, with these rows, for a while."""

    @contextmanager
    def make(root: Path) -> Iterator[Federation]:
        world = Federation(root, contract, ManualClock(start), SeededNoise(1))
        world.enrol(UnitSetup("north", pl.DataFrame(rows), 32, 50.0))
        yield world
        world.close()

    return make


@pytest.fixture
def federation(
    made_federation: Callable[[Path], AbstractContextManager[Federation]], tmp_path: Path
) -> Iterator[Federation]:
    """A real governance and one unit, north, with these rows."""
    with made_federation(tmp_path / "world") as world:
        yield world


@pytest.fixture(scope="session")
def opened() -> Callable[[Federation], AbstractContextManager[Site]]:
    """Opens the site of north anew, as each process of the node does."""

    @contextmanager
    def open_site(federation: Federation) -> Iterator[Site]:
        loaded = NodeSettings.load(federation.units["north"].settings)
        with runtime.SEAM.bound(federation.surroundings), closing(Site(loaded)) as site:
            yield site

    return open_site


@pytest.fixture
def site(
    federation: Federation, opened: Callable[[Federation], AbstractContextManager[Site]]
) -> Iterator[Site]:
    """The site of north."""
    with opened(federation) as found:
        yield found


CUSTOMERS = [f"C{number}" for number in range(1, 9)]
PAIRED = ("north", "south")


class Pair:
    """Two units, in a group when they have joined; a site is opened anew for each act."""

    def __init__(
        self,
        root: Path,
        contract: Contract,
        start: datetime,
        rows: Sequence[Row],
        features: tuple[Feature, ...],
    ) -> None:
        self.contract, self.features, self.key = contract, features, root / "shared.key"
        self.world = Federation(root / "world", contract, ManualClock(start), SeededNoise(1))
        for name in PAIRED:
            self.world.enrol(UnitSetup(name, pl.DataFrame(rows), 32, 50.0))
        self.check = create_group_key(self.key)

    def join(self, *units):
        for name in units:
            join_group(StateDir(self.world.units[name].state_dir), self.key)

    def declare(self, check=None, units=PAIRED):
        office = self.world.offices["compliance"]
        return office.declare_group("retail", units, "trim-upper/1", check or self.check)

    @contextmanager
    def site(self, unit):
        loaded = NodeSettings.load(self.world.units[unit].settings)
        with runtime.SEAM.bound(self.world.surroundings), closing(Site(loaded)) as found:
            yield found

    def sync(self, unit):
        with self.site(unit) as site:
            return site.synchronise()

    def say(self, unit, customer, act=None, purpose="marketing", ground="art21_2"):
        with self.site(unit) as site:
            statement = Statement(customer, purpose, ground, act=act)
            return take_in_for_group(site, statement, self.contract)

    def read(self, unit, purpose="marketing"):
        """The customers whom the one reader of a unit yields."""
        with self.site(unit) as site:
            maker, left_out = site.reading(self.contract, purpose)
            found = {c for c in CUSTOMERS if not left_out(maker.pseudonym(c), *maker.former(c))}
            source, today = source_of(site.settings), site.runtime.clock.now().date()
            inputs = Inputs(self.features)
            examples = load_examples(source, self.contract, inputs, maker, left_out, today)
        assert len(examples.labels) == len(found)
        return found


@pytest.fixture(scope="session")
def opened_pair(contract, start, rows, features):
    """Opens two units, for a while."""

    @contextmanager
    def make(root):
        made = Pair(root, contract, start, rows, features)
        yield made
        made.world.close()

    return make


@pytest.fixture
def apart(opened_pair, tmp_path):
    with opened_pair(tmp_path) as made:
        yield made


@pytest.fixture
def pair(apart):
    """Both have joined, and know it."""
    apart.join(*PAIRED)
    apart.declare()
    for unit in PAIRED:
        apart.sync(unit)
    return apart
