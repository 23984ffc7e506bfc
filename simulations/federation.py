"""The whole world in one process: governance, accounts, units with their nodes, server, clock,
noise.

Only the network between them is replaced: messages are copied through bytes, governance is reached
by the production HTTP client over an in-process transport. Documents, keys, checks and files are
the real ones, in the realm `simulation`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import polars as pl
from flwr.app import Context, RecordDict

from clients import runtime as node_runtime
from clients.node import Node, open_node
from clients.state import StateDir, create_state, enrolment
from fedcore import wire
from fedcore.contracts import Contract
from fedcore.dpia_record import Dpia
from fedcore.evaluation_outcomes import Evaluation
from fedcore.evaluations import EvaluationPlan
from fedcore.gateway_http import HttpGateway
from fedcore.plans import TrainingPlan
from fedcore.privacy.noise import RandomSource
from fedcore.record import Realm
from fedcore.signing import Envelope, SigningKey, open_envelope, sign_record
from fedcore.version import VERSION
from fedserver import runtime as server_runtime
from fedserver.app import app as server_app
from fedserver.settings import SETTINGS_VARIABLE
from governance.accounts import bootstrap
from governance.app import create_app
from governance.settings import GovernanceSettings
from registry.database import Database, migrate
from simulations.clock import ManualClock
from simulations.grid import InProcessGrid
from simulations.paperwork import DPIA_ACTS
from simulations.transport import AsgiTransport

MODEL_NAME = "churn"
_ROLES = ("compliance", "evaluator", "dpo", "approver", "author", "operator")


@dataclass(frozen=True)
class UnitSetup:
    """A unit to be enrolled: its rows, band, cap and policy."""

    unit: str
    rows: pl.DataFrame
    size_band: int
    epsilon_cap: float
    faulty_rows: str = "refuse"
    absent_fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Terms:
    """The world's constants: the ledgers' delta, how long bulletins and permits count, where
    governance's database is (a file of the world, when that is not said), and the name that its
    models are registered under.
    """

    delta: float = 1e-5
    bulletin_valid_s: int = 900
    permit_valid_s: int = 86_400
    database_url: str | None = None
    model_name: str = MODEL_NAME


class Unit:
    """A unit of the world: its files, and its node opened for one act at a time."""

    def __init__(self, setup: UnitSetup, root: Path, federation: "Federation") -> None:
        self.name = setup.unit
        self.setup = setup
        self.source = root / "customers.csv"
        self.state_dir = root / "state"
        self.settings = root / "node.toml"
        self._federation = federation

    @contextmanager
    def node(self) -> Iterator[Node]:
        """Open the unit's node, as each message to it does."""
        with node_runtime.SEAM.bound(self._federation.surroundings):
            node = open_node(self.settings)
            try:
                yield node
            finally:
                node.close()

    def write_rows(self, rows: pl.DataFrame) -> None:
        """Replace the unit's source."""
        rows.write_csv(self.source)

    def check(self) -> None:
        """Do what `fedpact node check` does. Raises: DataError for the operator."""
        with self.node() as node:
            node.check(self._federation.contract.digest)

    def opt_out(self, customer: str, purpose: str) -> int:
        """Take in an opt-out at the unit. Returns: its sequence number."""
        with self.node() as node:
            contract = node.contract(self._federation.contract.digest)
            return node.opt_out(customer, purpose, contract, "art21_2")


class Federation:
    """A world in `root`, with governance running and all accounts made; `close` ends it.

    Attributes:
        cut_off: nodes cannot reach governance while this is set.
    """

    def __init__(
        self,
        root: Path,
        contract: Contract,
        clock: ManualClock,
        noise: RandomSource,
        terms: Terms = Terms(),
    ) -> None:
        self.root = root
        self.contract = contract
        self.clock = clock
        self.terms = terms
        self.cut_off = False
        self.units: dict[str, Unit] = {}
        self.offices: dict[str, HttpGateway] = {}
        self.governance_key, self._transport = self._open_governance()
        self._open_accounts()
        self.surroundings = node_runtime.Runtime(
            clock=clock, noise=noise, gateway=lambda _settings: self._node_gateway()
        )
        self.offices["compliance"].publish_contract(contract)
        self.grid = InProcessGrid({}, self.surroundings)

    def close(self) -> None:
        """End governance and its thread."""
        self._transport.close()

    def gateway(self, api_key: str | None) -> HttpGateway:
        """Return the production client to this world's governance."""
        client = httpx.Client(transport=self._transport, base_url="http://governance")
        return HttpGateway(client, api_key)

    def _node_gateway(self) -> HttpGateway:
        line = _CutLine() if self.cut_off else self._transport
        return HttpGateway(httpx.Client(transport=line, base_url="http://governance"), None)

    def tick(self, *, minutes: float = 0, hours: float = 0) -> None:
        """Let time pass for everybody."""
        self.clock.tick(timedelta(minutes=minutes, hours=hours))

    def enrol(self, setup: UnitSetup) -> Unit:
        """Make a unit's state directory, enrol its node, write its rows, and return the unit."""
        root = self.root / "units" / setup.unit
        unit = Unit(setup, root, self)
        namespace = self.contract.subject.namespace
        create_state(unit.state_dir, setup.unit, namespace, self.clock.now())
        request = enrolment(
            StateDir(unit.state_dir).keys(),
            setup.unit,
            f"{setup.unit} Ltd",
            (setup.size_band, namespace),
            self.clock.now(),
            Realm.SIMULATION,
        )
        self.offices["compliance"].enrol(request)
        unit.write_rows(setup.rows)
        self._write_node_settings(unit)
        self.units[setup.unit] = unit
        nodes = {number: u.settings for number, u in enumerate(self.units.values(), start=2)}
        self.grid = InProcessGrid(nodes, self.surroundings)
        return unit

    def node_id(self, unit: str) -> int:
        """Return the Flower node of a unit."""
        return 2 + list(self.units).index(unit)

    def put_in_force(self, dpia: Dpia) -> str:
        """Take a DPIA to `in_force` by four people. Returns: its digest."""
        digest = self.offices["author"].create_dpia(dpia)
        for role, act, note, details in DPIA_ACTS:
            self.offices[role].act_on_dpia(digest, act, note, details)
        return digest

    def sign_plan(self, plan: TrainingPlan | EvaluationPlan) -> Envelope:
        """Return the plan, signed by the author account's key."""
        return sign_record(plan, self.author_key, Realm.SIMULATION)

    def register(self, plan: TrainingPlan | EvaluationPlan) -> str:
        """Register the author-signed plan. Returns: its digest."""
        author, signed = self.offices["author"], self.sign_plan(plan)
        if isinstance(plan, EvaluationPlan):
            return author.register_evaluation_plan(signed)
        return author.register_plan(signed)

    def run(
        self, plan_digest: str, run_id: str, watch: server_runtime.Watcher = lambda *_: None
    ) -> None:
        """Do a run of a plan, to train or to evaluate, with the real ServerApp over the in-process
        grid.

        Raises: FedError, as the ServerApp does.
        """
        context = Context(
            run_id=1,
            node_id=1,
            node_config={},
            state=RecordDict(),
            run_config={wire.PLAN_DIGEST: plan_digest, wire.RUN_ID: run_id},
        )
        surroundings = server_runtime.Runtime(
            now=self.clock.now,
            gateway=lambda settings: self.gateway(settings.api_key_file.read_text()),
            watch=watch,
            pause=lambda seconds: self.clock.tick(timedelta(seconds=seconds)),
        )
        before = os.environ.get(SETTINGS_VARIABLE)
        os.environ[SETTINGS_VARIABLE] = str(self.root / "server" / "server.toml")
        try:
            with server_runtime.SEAM.bound(surroundings):
                server_app(self.grid, context)
        finally:
            os.environ.pop(SETTINGS_VARIABLE)
            if before is not None:
                os.environ[SETTINGS_VARIABLE] = before

    def evaluate(
        self,
        plan: EvaluationPlan,
        run_id: str,
        watch: server_runtime.Watcher = lambda *_: None,
    ) -> Evaluation:
        """Register an evaluation plan, do a run of it with the real ServerApp, and return what
        governance has derived and signed.

        Raises: FedError, as the ServerApp does.
        """
        self.run(self.register(plan), run_id, watch)
        envelope = self.offices["operator"].fetch_evaluation(run_id)
        return open_envelope(envelope, Evaluation, self.governance_key.public, Realm.SIMULATION)

    def _open_governance(self) -> tuple[SigningKey, AsgiTransport]:
        home = self.root / "governance"
        home.mkdir(parents=True)
        key = SigningKey.generate()
        key.save(home / "governance.pem")
        (home / "governance.pub").write_text(key.public + "\n", encoding="ascii")
        url = self.terms.database_url or f"sqlite:///{home / 'governance.db'}"
        migrate(url)
        settings = GovernanceSettings(
            database_url=url,
            signing_key=home / "governance.pem",
            realm=Realm.SIMULATION,
            accepted_versions=(VERSION,),
            bulletin_valid_s=self.terms.bulletin_valid_s,
            permit_valid_s=self.terms.permit_valid_s,
        )
        database = Database(url)
        self._admin_key = bootstrap(database, self.clock.now())
        database.close()
        return key, AsgiTransport(create_app(settings, self.clock.now))

    def _open_accounts(self) -> None:
        admin = self.gateway(self._admin_key)
        home = self.root / "server"
        home.mkdir(parents=True)
        self.author_key, self.server_key = SigningKey.generate(), SigningKey.generate()
        self.server_key.save(home / "server.pem")
        keys = {"author": self.author_key.public, "operator": self.server_key.public}
        api_keys = {
            role: admin.create_account(f"{role}-person", role, keys.get(role)) for role in _ROLES
        }
        self.offices = {role: self.gateway(api_key) for role, api_key in api_keys.items()}
        (home / "api.key").write_text(api_keys["operator"], encoding="ascii")
        write_toml(
            home / "server.toml",
            {
                "realm": "simulation",
                "work_dir": str(home / "runs"),
                "governance_url": "http://governance",
                "governance_key": self.governance_key.public,
                "api_key_file": str(home / "api.key"),
                "signing_key": str(home / "server.pem"),
                "model_name": self.terms.model_name,
                "poll_interval_s": 0.01,
            },
        )

    def _write_node_settings(self, unit: Unit) -> None:
        write_toml(
            unit.settings,
            {
                "unit": unit.name,
                "realm": "simulation",
                "state_dir": str(unit.state_dir),
                "source": str(unit.source),
                "governance_url": "http://governance",
                "governance_key": self.governance_key.public,
                "subject_namespace": self.contract.subject.namespace,
                "epsilon_cap": unit.setup.epsilon_cap,
                "delta": self.terms.delta,
                "size_band": unit.setup.size_band,
                "purposes": [purpose.id for purpose in self.contract.purposes],
                "minimum_cohort": 2,
                "faulty_rows": unit.setup.faulty_rows,
                "absent_fields": list(unit.setup.absent_fields),
            },
        )


class _CutLine(httpx.BaseTransport):
    """A network on which nobody answers."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("the line is cut", request=request)


def write_toml(path: Path, values: dict[str, str | float | int | list[str]]) -> None:
    """Write flat settings as TOML."""
    lines = [f"{name} = {_toml(value)}" for name, value in values.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: str | float | list[str]) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)
