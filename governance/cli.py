"""Run the governance service, and act on it from a distance.

What takes long to import is imported by the commands that use it.
"""

import typer

from governance.commands import (
    audits,
    backups,
    decisions,
    drafts,
    evaluations,
    exchange,
    handovers,
    incidents,
    mitigation,
    models,
    notices,
    opt_outs,
    papers,
    people,
    rules,
    service,
    sessions,
    stops,
    units,
)

app = typer.Typer(
    help="Run the governance service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(service.init)
app.command()(service.code)
app.command("certificate")(service.renew_certificate)
app.command()(service.serve)
app.command()(service.key)
app.command()(handovers.rotate_key)
app.command()(backups.backup)
app.command()(backups.restore)
app.command()(people.claim)
app.command("account")(people.create_account)
app.command("revoke-account")(people.revoke_account)
app.command("password")(sessions.set_password)
app.command()(sessions.sign_in)
app.command()(sessions.sign_out)
app.command()(units.enrol)
app.command("units")(units.list_units)
app.command("revoke-node")(units.revoke_node)
app.command("stop-all")(stops.stop_all)
app.command("lift-stop")(stops.lift_stop)
app.command("rules")(rules.rules)
papers.dpia.command("new")(drafts.new)
papers.dpia.command("show")(drafts.show)
papers.dpia.command("check")(drafts.check)
papers.dpia.command("diff")(drafts.diff)
papers.dpia.command("schema")(drafts.schema)
papers.dpia.command("criteria")(drafts.criteria)
app.command()(notices.notify)
app.add_typer(incidents.incident, name="incident")
opt_outs.opt_outs.command("decide")(decisions.decide)
opt_outs.opt_outs.command("decisions")(decisions.show_decisions)
app.add_typer(models.models, name="models")
app.add_typer(opt_outs.opt_outs, name="opt-outs")
app.add_typer(evaluations.evaluations, name="evaluations")
audits.audits.command("tables")(mitigation.tables)
audits.audits.command("curve")(mitigation.curve)
audits.audits.command("weights")(mitigation.weights)
audits.audits.command("penalty")(mitigation.penalty)
app.add_typer(audits.audits, name="audits")
app.add_typer(papers.contract, name="contract")
papers.dpia.command("import")(exchange.import_file)
papers.dpia.command("export")(exchange.export_file)
app.add_typer(papers.dpia, name="dpia")
