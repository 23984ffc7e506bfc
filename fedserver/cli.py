"""Run the federation server.

What takes long to import is imported by the commands that use it.
"""

import typer

from fedserver.commands import (
    calibrate,
    evaluations,
    plans,
    runs,
    segments,
    server,
    suggest,
    sweeps,
)

app = typer.Typer(
    help="Run the federation server: plans, nodes, runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
plan = typer.Typer(help="Check, sign and register training plans.", no_args_is_help=True)
hold = typer.Typer(help="Keep what a sweep would delete.", no_args_is_help=True)

app.command()(server.init)
app.command("certificate")(server.renew_certificate)
app.command()(server.start)
app.command()(server.admit)
app.command()(runs.run)
app.command()(runs.evaluate)
app.command("runs")(runs.list_runs)
app.command()(runs.stop)
app.command()(runs.resume)
app.command()(sweeps.sweep)
plan.command()(plans.check)
plan.command("calibrate")(calibrate.write_calibrated)
plan.command("suggest")(suggest.write_suggested)
plan.command("segments")(segments.write_segments)
plan.command("evaluate")(evaluations.write_evaluation)
plan.command("key")(plans.make_key)
plan.command()(plans.sign)
plan.command()(plans.register)
hold.command("add")(sweeps.add_hold)
hold.command("release")(sweeps.release_hold)
hold.command("show")(sweeps.show_holds)
app.add_typer(hold, name="hold")
app.add_typer(plan, name="plan")
