"""Fairness audits from a distance: what they say, their trend, waivers, and what to expect."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedcore.named_files import verify_absent, write_new
from governance.commands.options import (
    ApiKeyFile,
    Authority,
    Url,
    open_line,
    parse_file,
)

if TYPE_CHECKING:
    from fedcore.audit_lists import AuditSummary, BoundOutcome
    from fedcore.dpias import Bindings
    from fedcore.evaluations import EvaluationPlan
    from fedcore.fairness_audits import FairnessAudit, GroupCount
    from fedcore.fairness_bindings import SensitiveAttribute
    from fedcore.fairness_curves import ThresholdCurve
    from fedcore.fairness_tables import CrossedGroups
    from fedcore.gateway_http import HttpGateway
    from fedcore.signing import Envelope

audits = typer.Typer(
    help="See fairness audits, waive one by two people, and say beforehand what one can settle.",
    no_args_is_help=True,
)
Audited = Annotated[str, typer.Argument(metavar="RUN", help="The run of the audit.")]
Assessed = Annotated[Path, typer.Argument(metavar="DPIA.json", help="The DPIA, or its draft.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, with all numbers.")]


@audits.command("list")
def list_audits(
    url: Url,
    api_key_file: ApiKeyFile,
    name: Annotated[str | None, typer.Option(help="Of this model only.")] = None,
    as_json: AsJson = False,
    ca: Authority = None,
) -> None:
    """List audits by model and version, each bound with its largest gap: the trend of a model.

    Of several audits of one version the first decides; the others stand beside it. Audits of one
    model at several thresholds of the score are said to be no one trend.
    """
    import json

    with open_line(url, ca, api_key_file) as gateway:
        found = [each for each in gateway.list_audits() if name in (None, each.name)]
    found.sort(key=lambda each: (each.name, each.version, each.number))
    if as_json:
        listed = [each.model_dump(mode="json") for each in found]
        typer.echo(json.dumps({"audits": listed}, indent=2))
        return
    for each in found:
        _print_summary(each)
    for line in _mixed_thresholds(found):
        typer.echo(line)


@audits.command("show")
def show_audit(
    run_id: Audited,
    url: Url,
    api_key_file: ApiKeyFile,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a report for people to this file.")
    ] = None,
    as_json: AsJson = False,
    ca: Authority = None,
) -> None:
    """Show the audit of a run, and the waivers of its model version.

    The signature is verified with the key that governance states.
    """
    import json

    with open_line(url, ca, api_key_file) as gateway:
        found = open_audit(gateway, gateway.fetch_audit(run_id))
        waivers = gateway.list_waivers(found.name, found.version)
    if html is not None:
        write_report(found, html)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
        return
    _print(found)
    for view in waivers:
        typer.echo(_waiver_line(view.document, view.envelope.payload_bytes))


@audits.command("waive")
def waive(
    run_id: Audited,
    reason: Annotated[str, typer.Option(help="Why; it is signed and logged.")],
    until: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The day it ends, in UTC.")],
    url: Url,
    api_key_file: ApiKeyFile,
    ca: Authority = None,
) -> None:
    """Answer for a version that its audit does not pass, for a reason and until a day.

    It counts when a second person joins it. Neither may have written the plan. Prints the digest.
    """
    from datetime import UTC

    ends_at = until.replace(tzinfo=UTC)
    with open_line(url, ca, api_key_file) as gateway:
        typer.echo(_waive(gateway, run_id, reason=reason, expires_at=ends_at))


@audits.command("join")
def join(
    run_id: Audited,
    waiver: Annotated[
        str, typer.Argument(metavar="WAIVER", help="The digest of another person's waiver.")
    ],
    url: Url,
    api_key_file: ApiKeyFile,
    ca: Authority = None,
) -> None:
    """Stand for another person's waiver too, so that it counts. Prints the new digest."""
    with open_line(url, ca, api_key_file) as gateway:
        typer.echo(_waive(gateway, run_id, joins=waiver))


@audits.command("plan")
def plan_audit(
    evaluation: Annotated[
        Path, typer.Argument(metavar="PLAN.json", help="The evaluation plan, not signed yet.")
    ],
    dpia: Assessed,
    out: Annotated[Path, typer.Option(help="Where the plan with the audit is written.")],
) -> None:
    """Write an evaluation plan again with the table of groups that a DPIA binds.

    Says what each table then gets of epsilon: one table more shares the same. A plan of segments
    has the groups in its one table.
    """
    import json

    from fedcore.evaluations import EvaluationPlan

    verify_absent(out)
    plan = EvaluationPlan.from_json(parse_file(evaluation))
    audited = plan.model_copy(update=_counted_by(dpia, plan))
    write_new(out, (json.dumps(audited.to_json(), indent=2) + "\n").encode(), "file.unwritable")
    each = audited.epsilon / audited.tables
    typer.echo(f"{audited.tables} tables, epsilon {each:g} for each: {out}")


@audits.command("forecast")
def forecast(
    dpia: Assessed,
    expected: Annotated[
        Path,
        typer.Argument(
            metavar="EXPECTED.json",
            help='For each group, or "a & b" where they are crossed: share, positive, '
            "true_positive, false_positive.",
        ),
    ],
    epsilon: Annotated[float, typer.Option(help="What the table of groups gets at each unit.")],
    units: Annotated[int, typer.Option(min=1, help="How many units count.")],
    rows: Annotated[int, typer.Option(min=1, help="How many customers are set aside in all.")],
) -> None:
    """Say how many customers would settle each bound of a DPIA, before anything is counted."""
    from fedcore.fairness_planning import (
        PlannedTable,
        expected_shares,
        forecast_terms,
        planning_text,
        read_rates,
        rows_to_settle,
    )

    layout, terms = forecast_terms(_bindings_in(dpia))
    shares = expected_shares(layout, read_rates(layout, parse_file(expected)))
    planned = PlannedTable(layout, shares, units, epsilon)
    typer.echo(planning_text(rows_to_settle(planned, terms), planned, rows))


def _counted_by(dpia: Path, plan: "EvaluationPlan") -> dict[str, object]:
    """Return the table of groups that a DPIA binds, as the plan's own field.

    Why it may be counted is said in the DPIA, and nowhere else.
    """
    from fedcore.fairness_terms import audit_of
    from fedcore.segments.comparing import segment_audit_of

    if plan.segments is not None:
        layout, _ = segment_audit_of(_bindings_in(dpia), plan.segments.segments)
        return {"segments": layout.model_copy(update={"attributes": _plain(layout)})}
    table, _ = audit_of(_bindings_in(dpia))
    return {"fairness": table.model_copy(update={"attributes": _plain(table)})}


def _plain(layout: "CrossedGroups") -> "tuple[SensitiveAttribute, ...]":
    return tuple(each.model_copy(update={"special_condition": None}) for each in layout.attributes)


def _bindings_in(dpia: Path) -> "Bindings":
    from fedcore.dpia_record import Dpia

    return Dpia.from_json(parse_file(dpia)).bindings


def open_audit(gateway: "HttpGateway", envelope: "Envelope") -> "FairnessAudit":
    """Return a signed audit, its signature verified with the key that governance states."""
    from fedcore.fairness_audits import FairnessAudit
    from fedcore.handovers import follow_handovers

    about = gateway.fetch_about()
    keys = follow_handovers(about.public_key, gateway.fetch_handovers(), about.realm)
    return keys.open(envelope, FairnessAudit, about.realm)


def _waive(gateway: "HttpGateway", run_id: str, **terms: Any) -> str:
    from fedcore.audit_lists import WaiverRequest

    audit = open_audit(gateway, gateway.fetch_audit(run_id))
    request = WaiverRequest(audit=audit.digest, **terms)
    return gateway.waive_audit(audit.name, audit.version, request).digest


def write_report(
    found: "FairnessAudit", path: Path, curves: "Sequence[ThresholdCurve]" = ()
) -> None:
    """Write an audit, and what other thresholds would do, as a page for people.

    Raises: ConflictError `file.exists`.
    """
    from governance.exports.audit_report import render_audit

    verify_absent(path)
    write_new(path, render_audit(found, curves).encode(), "file.unwritable")


def _print(found: "FairnessAudit") -> None:
    simulated = ", SIMULATION" if found.simulation else ""
    typer.echo(
        f"run {found.run_id}, audited {found.audited_at:%Y-%m-%d %H:%M} UTC{simulated}: "
        f"{found.name} version {found.version}"
    )
    if found.first is not None:
        typer.echo(f"audit number {found.number}: the first one decides, {found.first}")
    typer.echo(f"{found.found.verdict}: {found.found.meaning}")
    if found.found.threshold is not None:
        typer.echo(_selected(found.found.threshold))
    for bound in found.found.bounds:
        typer.echo(_line(bound))
        for one in bound.compared:
            gap = "not known" if one.gap is None else f"{one.gap:+.3f}"
            typer.echo(
                f"    {one.group}, {one.rate}: {gap}, {one.low:+.3f} to {one.high:+.3f}, "
                f"{one.outcome}"
            )
    for group in found.found.groups:
        typer.echo(f"  {group.attribute}, {group.group}: {_counts(found, group)}, with noise")
    for share in found.found.shares or ():
        told = f"too few people to be shown, below {found.found.minimum_size}"
        if share.share is not None and share.low is not None and share.high is not None:
            told = f"{share.share:.3f} of its people, {share.low:.3f} to {share.high:.3f}"
        typer.echo(f"  segment {share.segment}, {share.group}: {told}")
    typer.echo(f"DPIA {found.dpia}, alpha {found.found.alpha:g}; this audit {found.digest}")


def _counts(found: "FairnessAudit", group: "GroupCount") -> str:
    counts = {"people": group.people}
    if found.found.shares is None:
        counts |= {"with the label": group.positive, "selected": group.selected}
    return ", ".join(
        f"{'not shown' if count is None else count} {name}" for name, count in counts.items()
    )


def _print_summary(each: "AuditSummary") -> None:
    place = "decides" if each.number == 1 else f"number {each.number}"
    selected = "" if each.threshold is None else f"  {_selected(each.threshold)}"
    typer.echo(
        f"{each.name} {each.version}  {each.verdict}  ({place})  {each.audited_at:%Y-%m-%d}  "
        f"{each.run_id}{selected}"
    )
    for bound in each.bounds:
        typer.echo(_line(bound))


def _selected(threshold: float) -> str:
    return f"selected from a score of {threshold:g}"


def _mixed_thresholds(found: "Sequence[AuditSummary]") -> Iterator[str]:
    """Yield a line for each model whose audits select from different scores: what looks like a
    trend of its gaps may be the thresholds'.
    """
    for name in sorted({each.name for each in found}):
        told = (each.threshold for each in found if each.name == name)
        used = sorted({threshold for threshold in told if threshold is not None})
        if len(used) > 1:
            listed = ", ".join(f"{threshold:g}" for threshold in used)
            yield f"{name}: several thresholds ({listed}): only gaps at the same one are one trend"


def _line(bound: "BoundOutcome") -> str:
    return (
        f"  {bound.attribute}, {bound.metric} within {bound.largest_gap:g}: {bound.verdict}, "
        f"largest gap {bound.widest.interval_told}"
    )


def _waiver_line(document: str, payload: bytes) -> str:
    from fedcore.fairness_audits import Waiver

    waiver = Waiver.from_bytes(payload)
    people = " and ".join(waiver.people)
    return f"waived by {people} until {waiver.expires_at:%Y-%m-%d}: {waiver.reason} ({document})"
