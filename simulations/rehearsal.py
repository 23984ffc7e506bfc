"""A dress rehearsal of one unit: a full round on made-up rows through the real processes.

`python -m simulations.rehearsal NODE.toml CONTRACT.json` is what `fedpact node rehearse` starts.
The unit's policy and size are carried over; keys, ledger, governance, server and the other units
are made for the rehearsal and thrown away. Hours and server versions that the unit excludes are not
carried over: they speak of other days and other machines.

Guarantees: the unit's state directory is only read for the contract, its source and its lines to
    governance and SuperLink are not used at all; everything is of realm `simulation`, which no
    production party accepts.
"""

import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcore.errors import FedError

if TYPE_CHECKING:
    from clients.settings import NodeSettings
    from fedcore.contracts import Contract
    from simulations.deployment import Deployment
    from simulations.federation import UnitSetup
    from simulations.scenario import PlanTerms, Scenario

RUN_ID = "rehearsal"
STAND_IN = "stand-in"
PASSED = "rehearsal passed: nothing was spent"
_ROWS = 500
_RUN_S = 120.0


class Rehearsal:
    """One unit's rehearsal in a scratch directory; `carry_out` prints each step with its time."""

    def __init__(self, settings: "NodeSettings", contract: "Contract", scratch: Path) -> None:
        self._settings, self._contract, self._scratch = settings, contract, scratch
        self._began = time.monotonic()

    def carry_out(self) -> None:
        """Do the whole round. Raises: FedError with the log of what did not work."""
        from fedcore.record import Realm
        from simulations.deployment import Deployment
        from simulations.federation import Terms
        from simulations.paperwork import make_plan

        scenario = make_scenario(self._settings, self._contract)
        plan = make_plan(scenario)
        self._step(f"plan for {len(scenario.units)} units and {len(plan.features)} fields made")
        terms = Terms(delta=self._settings.delta)
        with Deployment(self._scratch, self._contract, Realm.SIMULATION, terms) as deployment:
            deployment.open_governance()
            self._step("governance answers over TLS")
            deployment.open_server()
            deployment.server.start()
            self._step("SuperLink answers over TLS")
            setups = [self._setup(unit.unit) for unit in scenario.units]
            deployment.join_all(setups, **policy_of(self._settings))
            self._step("units enrolled by eight words, made-up rows checked")
            deployment.put_in_force(plan, scenario.epsilon)
            deployment.register(plan)
            deployment.server.admit()
            deployment.start_nodes()
            self._step("nodes started and admitted")
            self._train(deployment, plan.digest)

    def _setup(self, unit: str) -> "UnitSetup":
        from simulations.federation import UnitSetup
        from simulations.generated_rows import generate_rows

        settings = self._settings
        return UnitSetup(
            unit=unit,
            rows=generate_rows(self._contract, unit, min(_ROWS, settings.size_band), seed=1),
            size_band=settings.size_band,
            epsilon_cap=settings.epsilon_cap,
            faulty_rows=settings.faulty_rows,
        )

    def _train(self, deployment: "Deployment", plan: str) -> None:
        from simulations.federation import MODEL_NAME

        command = deployment.server.run(plan, RUN_ID)
        code = command.wait(_RUN_S)
        if code:
            raise FedError("rehearsal.failed", f"the run ended with {code}:\n{command.output()}")
        self._step("one round trained, answered and reported")
        bundle, key = self._scratch / f"{MODEL_NAME}.zip", self._scratch / "governance.pub"
        bundle.write_bytes(deployment.evidence(1))
        key.write_text(deployment.governance_key + "\n", encoding="ascii")
        deployment.server.shell.must("verify", bundle, "--key", key)
        self._step("evidence verified")

    def _step(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)  # noqa: T201


def make_scenario(settings: "NodeSettings", contract: "Contract") -> "Scenario":
    """Return a federation of the unit and as many stand-ins as its policy asks for.

    Raises: FedError `rehearsal.no_purpose` when the contract has none of the unit's purposes.
    """
    from simulations.scenario import Scenario, ScenarioUnit

    cap = min(settings.epsilon_cap, settings.run_epsilon_cap or settings.epsilon_cap)
    others = [f"{STAND_IN}-{n}" for n in range(1, max(2, settings.minimum_cohort))]
    return Scenario(
        title="Rehearsal on made-up rows",
        data="made up",
        epsilon=min(1.0, cap),
        delta=settings.delta,
        rounds=1,
        units=tuple(
            ScenarioUnit(
                unit=unit,
                label=unit,
                size_band=settings.size_band,
                epsilon_cap=settings.epsilon_cap,
            )
            for unit in (settings.unit, *others)
        ),
        contract=contract,
        plan=_terms(settings, contract),
    )


def _terms(settings: "NodeSettings", contract: "Contract") -> "PlanTerms":
    """Return terms of a plan that uses every field that may be an input and that the unit has."""
    from fedcore.learning_rules import Algorithm
    from fedcore.plans import Feature, ModelSpec
    from simulations.scenario import PlanTerms

    return PlanTerms(
        task=settings.tasks[0] if settings.tasks else "churn",
        purpose=_purpose(settings, contract),
        model=ModelSpec(kind="logistic"),
        algorithm=Algorithm(local_learning_rate=0.1),
        features=tuple(
            Feature(
                field=field.name,
                encoding="scale" if field.kind == "numeric" else "onehot",
                absent=None if field.availability is None else "leave_out",
            )
            for field in contract.fields
            if field.sensitivity == "none" and field.name not in settings.absent_fields
        ),
        minimum_units=max(2, settings.minimum_cohort),
        l2_clip_norm=1.0,
    )


def _purpose(settings: "NodeSettings", contract: "Contract") -> str:
    known = {purpose.id for purpose in contract.purposes}
    for purpose in settings.purposes:
        if purpose in known:
            return purpose
    raise FedError(
        "rehearsal.no_purpose",
        f"purposes: the contract has none of {', '.join(settings.purposes)}; name one that it has",
    )


def policy_of(settings: "NodeSettings") -> dict[str, Any]:
    """Return the unit's own word over runs, as settings of its rehearsing node."""
    policy: dict[str, Any] = {
        "purposes": list(settings.purposes),
        "minimum_cohort": settings.minimum_cohort,
    }
    if settings.tasks is not None:
        policy["tasks"] = list(settings.tasks)
    if settings.run_epsilon_cap is not None:
        policy["run_epsilon_cap"] = settings.run_epsilon_cap
    return policy


def rehearse(settings_path: Path, contract_path: Path) -> None:
    """Rehearse a unit by its settings and its signed contract. Raises: FedError."""
    from clients.handovers import KeyStore
    from clients.settings import NodeSettings
    from fedcore import canonical
    from fedcore.contracts import Contract
    from fedcore.signing import Envelope

    settings = NodeSettings.load(settings_path)
    envelope = Envelope.from_json(canonical.parse(contract_path.read_bytes()))
    contract = KeyStore(settings).load().open(envelope, Contract, settings.realm)
    with tempfile.TemporaryDirectory(prefix="fedpact-rehearsal-") as scratch:
        Rehearsal(settings, contract, Path(scratch)).carry_out()


def main() -> None:
    """Rehearse what the arguments name. Exit codes: those of `fedpact`."""
    # Ended by a signal, the rehearsal still ends everything that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        rehearse(Path(sys.argv[1]), Path(sys.argv[2]))
    except ModuleNotFoundError as error:
        if error.name is None or "." in error.name:
            raise
        sys.stderr.write(
            f"error: `{error.name}` is not installed: pip install 'fedpact[simulation]'\n"
        )
        sys.exit(3)
    except FedError as error:
        sys.stderr.write(f"error: rehearsal failed: {error.public} ({', '.join(error.codes)})\n")
        sys.exit(1)
    print(PASSED)  # noqa: T201


if __name__ == "__main__":
    main()
