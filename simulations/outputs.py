"""What a scenario leaves behind: report, page, plan, evidence; and the summary on the terminal."""

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import structlog
from rich.console import Console
from rich.table import Table

from fedcore.errors import ConflictError, FedError, InvalidRecordError, MismatchError
from fedcore.named_files import verify_absent, write_new
from fedcore.plans import TrainingPlan
from simulations.experiment import Experiment, Outcome, open_world
from simulations.refusals import EPSILON_CAP, Pair, attempt_all, small_plan
from simulations.report import make_report
from simulations.report_page import render_page
from simulations.scenario import Scenario
from simulations.second_process import verify_offline

_FILES = ("report.json", "index.html", "plan.json", "model.fedpact", "governance.pub")


def produce(
    scenario: Scenario, out: Path, json_path: Path | None, console: Console
) -> dict[str, Any]:
    """Run a scenario and write report, page, plan, evidence and public key to `out`.

    Returns: the report.
    Raises: ConflictError `simulation.out_taken` when `out` holds something else, `file.exists`;
        InvalidRecordError `report.unwritable`, `scenario.invalid` for a plan of segments; FedError
        of the run, with `out` as it was;
        MismatchError `simulation.not_verified`, `simulation.not_refused` when a promise of the
        report does not hold.
    """
    if scenario.plan.model.course is not None:
        raise InvalidRecordError(
            "scenario.invalid", "plan.model: it scores nobody; use `fedpact simulate segments`"
        )
    require_own(out, _FILES)
    if json_path is not None:
        verify_absent(json_path)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fedpact-") as scratch, logs_to(Path(scratch)):
        work, draft = Path(scratch), Path(scratch) / "out"
        draft.mkdir()
        console.print(f"[bold]{scenario.title}[/bold]  (simulation, seed {scenario.seed})")
        outcome = Experiment(scenario, work / "run", console.print).carry_out()
        pairs = _attempts(scenario, outcome, work / "refusals") if scenario.refusals else []
        write_evidence((outcome.bundle, outcome.governance_key, outcome.plan), draft)
        verification = verify_offline(draft / "model.fedpact", draft / "governance.pub")
        report = make_report(outcome, pairs, verification, time.perf_counter() - start)
        report["verify"]["command"] = "fedpact verify model.fedpact --key governance.pub"
        _write_report(report, draft, json_path)
        out.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            shutil.copyfile(draft / name, out / name)
    _print_summary(report, out, console)
    _require_promises(report)
    return report


def _attempts(scenario: Scenario, outcome: Outcome, root: Path) -> list[Pair]:
    """Attempt the refusals in a world of their own, with the scenario's first three units."""
    units = tuple(
        unit.model_copy(update={"epsilon_cap": EPSILON_CAP * 0.9}) for unit in scenario.units[:3]
    )
    few = scenario.model_copy(update={"units": units, "opt_outs": (), "dropouts": ()})
    plan = small_plan(outcome.plan, {unit.unit for unit in units})
    federation = open_world(few, outcome.population, root)
    try:
        return attempt_all(federation, plan)
    finally:
        federation.close()


def write_evidence(evidence: tuple[bytes, str, TrainingPlan], directory: Path) -> None:
    """Write a bundle, the key to verify it with, and the plan that was run."""
    bundle, governance_key, plan = evidence
    (directory / "model.fedpact").write_bytes(bundle)
    (directory / "governance.pub").write_text(governance_key + "\n", encoding="ascii")
    text = json.dumps(plan.to_json(), indent=2) + "\n"
    (directory / "plan.json").write_text(text, encoding="utf-8")


def _write_report(report: dict[str, Any], directory: Path, json_path: Path | None) -> None:
    text = json.dumps(report, indent=2) + "\n"
    (directory / "report.json").write_text(text, encoding="utf-8")
    (directory / "index.html").write_text(render_page(report), encoding="utf-8")
    if json_path is not None:
        write_new(json_path, text.encode(), "report.unwritable")


def require_own(out: Path, files: Sequence[str]) -> None:
    """Never write over what a run, which makes these files, did not make.

    Raises: ConflictError `simulation.out_taken`.
    """
    strangers = {entry.name for entry in out.iterdir()} - set(files) if out.is_dir() else set()
    if strangers or (out.exists() and not out.is_dir()):
        raise ConflictError(
            "simulation.out_taken", f"{out} holds other files: name another folder with --out"
        )


def _require_promises(report: dict[str, Any]) -> None:
    if not report["verified"]:
        raise MismatchError(
            "simulation.not_verified", "the second process could not verify the evidence"
        )
    failed = [pair["title"] for pair in report["refusal_pairs"] if not pair["ok"]]
    if failed:
        raise FedError("simulation.not_refused", f"did not go as promised: {', '.join(failed)}")


def _print_summary(report: dict[str, Any], out: Path, console: Console) -> None:
    auc = report["auc"]
    table = Table(title="Test AUC (computed by the simulator; nodes send no metrics)")
    table.add_column("model")
    table.add_column("AUC", justify="right")
    table.add_row("federated, differentially private", f"{auc['federated_dp']:.4f}")
    table.add_row("pooled, not private", f"{auc['pooled_nonprivate']:.4f}")
    table.add_row("a unit alone, not private (mean)", f"{auc['unit_alone_mean']:.4f}")
    console.print(table)
    if "evaluation" in report:
        console.print(evaluation_table(report["evaluation"]))
    for unit, epsilon in report["epsilon"].items():
        console.print(
            f"  {unit}: epsilon {epsilon:.3f} of {report['epsilon_cap'][unit]:.2f} at delta "
            f"{report['delta']:g} (if plans did not depend on outputs: "
            f"{report['epsilon_pld'][unit]:.3f})"
        )
    persons = report["epsilon_persons"][-1]
    console.print(f"  a person in {persons['units']} units: epsilon {persons['claim']:.3f}")
    console.print(f"  opt-outs enforced: {report['opt_outs_enforced']}")
    for pair in report["refusal_pairs"]:
        mark = "refused" if pair["ok"] else "NOT AS PROMISED:"
        console.print(f"  {mark} {pair['code']}, repaired: {pair['outcome']}")
    verdict = "verified" if report["verified"] else "NOT VERIFIED"
    console.print(f"  evidence: {verdict} by a second process without network")
    console.print(f"  {report['seconds']:.1f} s, {report['peak_rss_mb']:.0f} MB")
    console.print(f"report: {out / 'index.html'}")


def evaluation_table(found: dict[str, Any]) -> Table:
    """Return a report's evaluation as a table: what is signed, and what only a simulator knows."""
    table = Table(
        title=f"Federated evaluation: {found['customers']} customers set aside at "
        f"{found['units']} units, epsilon {found['table_epsilon']:g} (their number and the last "
        "two columns are the simulator's own)"
    )
    heads = ("value", f"{found['level']:.0%} interval", "exact, same customers", "exact, test part")
    table.add_column("number")
    for head in heads:
        table.add_column(head, justify="right")
    for number in found["numbers"]:
        interval = f"{number['low']:.4f} to {number['high']:.4f}" if "low" in number else "-"
        value = f"{number['value']:.4f}" if "value" in number else "hidden by the noise"
        exact = (
            "-" if number[name] is None else f"{number[name]:.4f}" for name in ("exact", "test")
        )
        table.add_row(number["name"], value, interval, *exact)
    return table


@contextmanager
def logs_to(directory: Path) -> Iterator[None]:
    """Keep nodes' and server's logs off the terminal while a scenario runs."""
    before = structlog.get_config()
    with (directory / "log.jsonl").open("w", encoding="utf-8") as file:
        _configure(file)
        logging.getLogger("httpx").setLevel(logging.WARNING)
        try:
            yield
        finally:
            structlog.configure(**before)


def _configure(file: TextIO) -> None:
    structlog.configure(
        processors=[structlog.processors.TimeStamper("iso"), structlog.processors.JSONRenderer()],
        logger_factory=structlog.WriteLoggerFactory(file),
        cache_logger_on_first_use=False,
    )
