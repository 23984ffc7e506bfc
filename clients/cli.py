"""Take part in training with a unit's own data, and keep the last word over it.

What takes long to import is imported by the commands that use it; none needs the training stack.
"""

import typer

from clients.commands import (
    bundle,
    consents,
    doctor,
    groups,
    ledgers,
    membership,
    opt_outs,
    pseudonyms,
    rehearse,
    segments,
    sent,
    setup,
    start,
    status,
    subjects,
    sweeps,
)

app = typer.Typer(
    help="Take part in training from a unit's own machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ledger = typer.Typer(
    help="Look at the privacy ledger, close a run, or rebuild it.", no_args_is_help=True
)
opt_out = typer.Typer(help="Take in customers' objections.", no_args_is_help=True)
subject = typer.Typer(help="Answer customers who ask.", no_args_is_help=True)
hold = typer.Typer(help="Keep what a sweep would delete.", no_args_is_help=True)
consent = typer.Typer(help="Take in customers' consents.", no_args_is_help=True)
group = typer.Typer(help="Opt-outs that act at all units of a group.", no_args_is_help=True)
segment = typer.Typer(help="Use segments on the unit's own customers.", no_args_is_help=True)
pseudonym = typer.Typer(help="Change the key of the pseudonyms.", no_args_is_help=True)

app.command()(membership.init)
app.command()(membership.enrol)
app.command()(membership.accept)
app.command()(membership.rotate)
app.command()(membership.leave)
app.command()(setup.check)
app.command()(setup.sync)
app.command()(sent.sent)
app.command()(doctor.doctor)
app.command()(status.status)
app.command()(bundle.bundle)
app.command()(start.start)
app.command()(rehearse.rehearse)
app.command()(sweeps.sweep)
opt_out.command("add")(opt_outs.add_opt_out)
opt_out.command("import")(opt_outs.import_opt_outs)
opt_out.command("withdraw")(opt_outs.withdraw_opt_out)
opt_out.command("decide")(opt_outs.decide_opt_out)
opt_out.command("erased")(opt_outs.confirm_erasure)
opt_out.command("lift")(opt_outs.lift_restriction)
opt_out.command("token")(opt_outs.make_token)
consent.command("add")(consents.add_consent)
consent.command("import")(consents.import_consents)
consent.command("withdraw")(consents.withdraw_consent)
pseudonym.command("show")(pseudonyms.show_keys)
pseudonym.command("rotate")(pseudonyms.rotate_key)
pseudonym.command("reissue")(pseudonyms.reissue_events)
pseudonym.command("retire")(pseudonyms.retire_key)
subject.command("report")(subjects.report)
ledger.command("show")(ledgers.show)
ledger.command("verify")(ledgers.verify)
ledger.command("export")(ledgers.export)
ledger.command("close")(ledgers.close)
ledger.command("rebuild")(ledgers.rebuild)
group.command("create-key")(groups.create_key)
group.command("join")(groups.join)
group.command("opt-out")(groups.add_opt_out)
group.command("withdraw")(groups.withdraw_opt_out)
group.command("show")(groups.show)
group.command("set-aside")(groups.set_aside)
hold.command("add")(sweeps.add_hold)
hold.command("release")(sweeps.release_hold)
hold.command("show")(sweeps.show_holds)
segment.command("assign")(segments.assign)
app.add_typer(segment, name="segments")
app.add_typer(hold, name="hold")
app.add_typer(ledger, name="ledger")
app.add_typer(subject, name="subject")
app.add_typer(opt_out, name="opt-out")
app.add_typer(consent, name="consent")
app.add_typer(pseudonym, name="pseudonym")
app.add_typer(group, name="group")
