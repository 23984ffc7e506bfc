"""What an audit's tables say about making a model fairer: other thresholds, weights, a penalty.

All of it is computed offline, from the documents that `tables` has fetched.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedcore.errors import InvalidRecordError, RefusedError
from fedcore.named_files import verify_absent, write_new
from governance.commands.audits import AsJson, Audited, open_audit, write_report
from governance.commands.options import (
    ApiKeyFile,
    Authority,
    Url,
    open_line,
    parse_file,
)

if TYPE_CHECKING:
    from fedcore.audit_basis import AuditBasis, OpenedBasis
    from fedcore.fairness_curves import CurvePoint, ThresholdCurve
    from fedcore.gateway_http import HttpGateway
    from fedcore.mitigation import AnyMitigation

Fetched = Annotated[
    Path, typer.Argument(metavar="AUDIT.json", help="The file that `tables` has written.")
]
Attribute = Annotated[str, typer.Option(help="The attribute, as the DPIA names it.")]
Into = Annotated[
    Path | None,
    typer.Option("--plan", metavar="PLAN.json", help="A training plan, not signed yet, to add to."),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Where the plan with the mitigation is written.")
]


def tables(
    run_id: Audited,
    out: Annotated[Path, typer.Option(help="Where all of it is written.")],
    url: Url,
    api_key_file: ApiKeyFile,
    ca: Authority = None,
) -> None:
    """Fetch an audit with the noised tables and the papers that it was derived from.

    The audit's signature is verified with the key that governance states, and everything else by
    the digests in it.
    """
    verify_absent(out)
    with open_line(url, ca, api_key_file) as gateway:
        basis = _fetch(gateway, run_id)
    opened = basis.open()
    write_new(
        out,
        (basis.model_dump_json(by_alias=True, exclude_none=True) + "\n").encode(),
        "file.unwritable",
    )
    typer.echo(f"{opened.audit.name} version {opened.audit.version}: {out}")


def curve(
    fetched: Fetched,
    attribute: Annotated[
        str | None,
        typer.Option(help="Also with a threshold for each group, where the DPIA binds that."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the audit with its curve to this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what other thresholds would do: how unequal, and how good.

    Computed from the noised tables of the audit, so that it costs no privacy. The thresholds are
    the edges of the DPIA's `further_edges` and the plan's own. With an attribute, each attribute
    that the DPIA binds for a decision counts as looked at.
    """
    basis = _open(fetched)
    curves = _curves(basis, attribute)
    if html is not None:
        write_report(basis.audit, html, curves)
    if as_json:
        shown = [each.model_dump(mode="json", exclude_none=True) for each in curves]
        about = {"audit": basis.audit.digest, "number": basis.audit.number}
        typer.echo(json.dumps({**about, "curves": shown}, indent=2))
        return
    if basis.audit.number > 1:
        typer.echo(f"audit number {basis.audit.number}: the first audit decides")
    for each in curves:
        _print(each)


def weights(fetched: Fetched, attribute: Attribute, plan: Into = None, out: Out = None) -> None:
    """Print weights by group and label, under which the two would be independent.

    Computed from the noised tables of the audit: no row is read, and the weights are public.
    """
    from fedcore.fairness_weights import weights_of

    basis = _open(fetched)
    found = weights_of(basis.table, basis.terms, attribute)
    for group in found.left_out:
        typer.echo(f"no weight for {group}: too few people by the noised counts", err=True)
    _say(found.reweighing, plan, out)


def penalty(
    fetched: Fetched,
    attribute: Attribute,
    group: Annotated[str, typer.Option(help="The group whose scores are held down, or lifted.")],
    strength: Annotated[
        float, typer.Option(help="How strongly they are held down; below zero, lifted.")
    ],
    plan: Into = None,
    out: Out = None,
) -> None:
    """Print a penalty on a group's covariance with the score.

    The group's public share comes from the noised tables of the audit: no row is read.
    """
    from fedcore.fairness_weights import penalty_of

    _say(penalty_of(_open(fetched).table, attribute, group, strength), plan, out)


def _fetch(gateway: "HttpGateway", run_id: str) -> "AuditBasis":
    from fedcore.audit_basis import AuditBasis
    from fedcore.evaluations import EvaluationPlan

    envelope = gateway.fetch_audit(run_id)
    audit = open_audit(gateway, envelope)
    plan = gateway.fetch_evaluation_plan(audit.plan)
    first = EvaluationPlan.from_bytes(plan.payload_bytes).models[0]
    return AuditBasis(
        audit=envelope,
        plan=plan,
        tables=gateway.fetch_audit_tables(run_id),
        dpia=gateway.fetch_dpia(audit.dpia).record,
        contract=gateway.fetch_contract(audit.contract),
        training=gateway.fetch_plan(first.plan),
    )


def _open(path: Path) -> "OpenedBasis":
    from fedcore.audit_basis import AuditBasis

    value = parse_file(path)
    try:
        basis = AuditBasis.from_json(value)
    except InvalidRecordError as error:
        raise InvalidRecordError(
            error.code, f"{path} is none that `audits tables` has written: {error.public}"
        ) from error
    return basis.open()


def _curves(basis: "OpenedBasis", attribute: str | None) -> "list[ThresholdCurve]":
    """Return the curve of everybody, and that of the groups of an attribute."""
    from fedcore.fairness_curves import group_threshold_curve, threshold_curve
    from fedcore.fairness_uses import looks_of

    if attribute is None:
        return [threshold_curve(basis.table, basis.terms)]
    _verify_decision(basis, attribute)
    looks = looks_of(basis.dpia)
    return [
        threshold_curve(basis.table, basis.terms, looks),
        group_threshold_curve(basis.table, basis.terms, attribute, looks),
    ]


def _verify_decision(basis: "OpenedBasis", attribute: str) -> None:
    from fedcore.fairness_uses import objection_to_use

    purpose = basis.training.purpose
    lack = objection_to_use(basis.dpia, basis.contract, purpose, attribute, "decision")
    if lack is not None:
        raise RefusedError([lack])


def _say(mitigation: "AnyMitigation", plan: Path | None, out: Path | None) -> None:
    """Print a mitigation, or write a plan again with it."""
    from fedcore.plans import TrainingPlan

    said: dict[str, Any] = {"mitigation": mitigation.model_dump(mode="json", exclude_none=True)}
    if plan is None or out is None:
        if plan is not out:
            raise typer.BadParameter("--plan and --out go together")
        typer.echo(json.dumps(said, indent=2))
        return
    verify_absent(out)
    whole = TrainingPlan.from_json({**parse_file(plan), **said})
    write_new(out, (json.dumps(whole.to_json(), indent=2) + "\n").encode(), "file.unwritable")
    typer.echo(f"{mitigation.kind} by {mitigation.attribute.name}: {out}")


def _print(found: "ThresholdCurve") -> None:
    whom = "everybody" if found.attribute is None else f"each group of {found.attribute}"
    typer.echo(
        f"a threshold for {whom}, each of {found.candidates} candidates tested at "
        f"{found.rate:.2g}: {found.verdict}"
    )
    typer.echo(found.meaning)
    for place, point in enumerate(found.points):
        mark = "*" if place == found.chosen else " "
        typer.echo(f"{mark} {_thresholds(point)}: {point.verdict}")
        for bound in point.bounds:
            gap = "not known" if bound.gap is None else f"{bound.gap:.3f}"
            typer.echo(
                f"    {bound.attribute}, {bound.metric} within {bound.largest_gap:g}: "
                f"{bound.verdict}, {gap}, {bound.low:.3f} to {bound.high:.3f}"
            )
        for each in point.worth:
            value = "not known" if each.value is None else f"{each.value:.3f}"
            typer.echo(f"    {each.name}: {value}, {each.low:.3f} to {each.high:.3f}")


def _thresholds(point: "CurvePoint") -> str:
    told = [
        f"{each.threshold:g}" if each.group is None else f"{each.group} {each.threshold:g}"
        for each in point.thresholds
    ]
    return ", ".join(told)
