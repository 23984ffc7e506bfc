"""A whole federation as real processes on one machine, set up and driven as its operators do.

Governance answers over TLS, the SuperLink is Flower's, each unit runs `fedpact node start`; all of
it by the production commands. Everything listens on the loopback interface, on ports that were
free.
"""

import secrets
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fedcore.contracts import Contract
from fedcore.gateway_http import HttpGateway, open_client
from fedcore.plans import TrainingPlan
from fedcore.record import Realm
from fedcore.signing import Envelope, SigningKey, sign_record
from simulations.deployment_commands import Shell
from simulations.deployment_processes import Process, end_marked
from simulations.deployment_sites import GovernanceSite, NodeSite, ServerSite
from simulations.federation import MODEL_NAME, Terms, UnitSetup
from simulations.paperwork import DPIA_ACTS, make_dpia

DEFAULT_TERMS = Terms()
_OFFICES = ("evaluator", "dpo", "approver", "auditor")


class Deployment:
    """A federation in `root`, used as a context manager: what it started ends with it.

    Guarantees: nothing but loopback is used; no process of it outlives `close`.

    Args:
        root: its folder, one sub-folder for each machine.
        contract: what all units' rows look like.
        realm: production, unless nothing of it may ever count.
        terms: the ledgers' delta, and how long bulletins and permits count.
    """

    def __init__(
        self,
        root: Path,
        contract: Contract,
        realm: Realm = Realm.PRODUCTION,
        terms: Terms = DEFAULT_TERMS,
    ) -> None:
        self.root, self.contract, self.realm, self.terms = root, contract, realm, terms
        self._mark = f"fedpact-{secrets.token_hex(8)}"
        self._open = ExitStack()
        self._open.callback(end_marked, self._mark)
        self.governance = GovernanceSite(self._shell("governance"), realm)
        self.server = ServerSite(self._shell("server"), self.governance)
        self.nodes: dict[str, NodeSite] = {}
        self.offices: dict[str, HttpGateway] = {}
        self.author_key = SigningKey.generate()
        self.governance_key = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process of the deployment and close the lines to governance."""
        self._open.close()

    @property
    def admin_key(self) -> Path:
        """The file of the first administrator's API key."""
        return self.governance.shell.folder / "ada.key"

    @property
    def compliance_key(self) -> Path:
        """The file of the compliance officer's API key."""
        return self.governance.shell.folder / "compliance.key"

    def open_governance(self) -> None:
        """Set up and start governance, with its people and the contract. Raises: FedError."""
        self.governance_key, code = self.governance.init()
        self.governance.set(
            bulletin_valid_s=self.terms.bulletin_valid_s, permit_valid_s=self.terms.permit_valid_s
        )
        self.governance.start()
        claim = ("claim", "--code", code, "--name", "ada", "--out", self.admin_key)
        self.governance.remote(*claim)
        self._open_offices()
        self.offices["compliance"].publish_contract(self.contract)

    def open_server(self) -> None:
        """Set up the server, with its operator's account. Raises: FedError."""
        operator = self.server.init(self.governance_key)
        out = self.server.home / "api.key"
        self._account("olga", "operator", "--public-key", operator, "--out", out)
        self.offices["operator"] = self._office(out)

    def node(self, name: str) -> NodeSite:
        """Return a unit's machine by the unit's name."""
        return self.nodes[name]

    def settle(self, setup: UnitSetup, **policy: Any) -> NodeSite:
        """Return a unit's machine, set up and not enrolled. Raises: FedError."""
        node = NodeSite(self._shell(setup.unit), setup, self.governance, self.server)
        given = {
            "subject_namespace": self.contract.subject.namespace,
            "purposes": [purpose.id for purpose in self.contract.purposes],
        }
        node.init(self.governance_key, self.terms.delta, **{**given, **policy})
        return node

    def join(self, setup: UnitSetup, **policy: Any) -> NodeSite:
        """Set a unit's machine up, have it enrolled and its source checked. Raises: FedError."""
        node = self.settle(setup, **policy)
        node.enrol(self.compliance_key)
        node.must("check", "--contract", self.contract.digest)
        self.nodes[setup.unit] = node
        return node

    def join_all(self, setups: Iterable[UnitSetup], **policy: Any) -> None:
        """Have units join, two at a time: most of it is waiting for commands. Raises: FedError."""
        with ThreadPoolExecutor(2) as pool:
            joined = list(pool.map(lambda setup: self.join(setup, **policy), setups))
        for node in joined:  # in the order given, whoever was first
            self.nodes[node.name] = self.nodes.pop(node.name)

    def start_nodes(self) -> None:
        """Start every node that does not run, and return when all are well. Raises: FedError."""
        for node in self.nodes.values():
            if not node.process.is_running():
                node.process.start()
        for node in self.nodes.values():
            node.await_well()

    def put_in_force(self, plan: TrainingPlan, epsilon_cap: float) -> None:
        """Take a DPIA that covers the plan to `in_force`, by four people. Raises: FedError."""
        dpia = make_dpia(plan, self.contract, epsilon_cap, datetime.now(UTC))
        digest = self.offices["author"].create_dpia(dpia)
        for role, act, note, details in DPIA_ACTS:
            self.offices[role].act_on_dpia(digest, act, note, details)

    def sign_plan(self, plan: TrainingPlan) -> Envelope:
        """Return the plan, signed by its author."""
        return sign_record(plan, self.author_key, self.realm)

    def register(self, plan: TrainingPlan) -> str:
        """Register the author-signed plan. Returns: its digest."""
        return self.offices["author"].register_plan(self.sign_plan(plan))

    def run(self, plan: TrainingPlan, run_id: str, *options: str) -> Process:
        """Start a run of a registered plan and return the running command."""
        return self.server.run(plan.digest, run_id, *options)

    def evidence(self, version: int) -> bytes:
        """Return the evidence bundle of a registered model version."""
        return self.offices["compliance"].fetch_evidence(MODEL_NAME, version)

    def _shell(self, machine: str) -> Shell:
        folder = self.root / machine
        folder.mkdir(parents=True)
        shell = Shell(folder, self._mark)
        self._open.callback(shell.close)
        return shell

    def _open_offices(self) -> None:
        out = self.compliance_key
        self._account("carl", "compliance", "--out", out)
        self.offices["compliance"] = self._office(out)
        admin = self._office(self.admin_key)
        keys = dict.fromkeys(_OFFICES) | {"author": self.author_key.public}
        for role, public_key in keys.items():
            api_key = admin.create_account(f"{role}-person", role, public_key)
            self.offices[role] = self._gateway(api_key)

    def _account(self, *arguments: str | Path) -> None:
        self.governance.remote("account", *arguments, api_key=self.admin_key)

    def _office(self, api_key: Path) -> HttpGateway:
        return self._gateway(api_key.read_text(encoding="ascii").strip())

    def _gateway(self, api_key: str) -> HttpGateway:
        client = open_client(self.governance.url, self.governance.ca)
        self._open.callback(client.close)
        return HttpGateway(client, api_key)
