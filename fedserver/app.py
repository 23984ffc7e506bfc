"""The ServerApp: the same in a deployment and in a simulation, to train and to evaluate.

It reads its settings from the file that `FEDPACT_SERVER_SETTINGS` names; what to train comes as
plan digest and run id in Flower's run configuration, and nothing else.
"""

import os
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedcore import wire
from fedcore.errors import InvalidRecordError
from fedcore.signing import SigningKey
from fedserver import runtime
from fedserver.cohort import Surroundings
from fedserver.engine.outcome import Journal
from fedserver.evaluation import EvaluationRun
from fedserver.session import EvaluationSession, open_session
from fedserver.settings import SETTINGS_VARIABLE, ServerSettings
from fedserver.training import TrainingRun

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Do the run that the run configuration names, or what is left of it.

    Raises: FedError; a deployment shows its public sentence in the run's log.
    """
    path = os.environ.get(SETTINGS_VARIABLE)
    if not path:
        raise InvalidRecordError(
            "settings.unreadable", f"set {SETTINGS_VARIABLE} to a settings file"
        )
    settings = ServerSettings.load(Path(path))
    names = (str(context.run_config[wire.PLAN_DIGEST]), str(context.run_config[wire.RUN_ID]))
    with Journal(settings.work_dir, names[1], context.run_id) as journal:
        surroundings = runtime.SEAM.current(settings.realm)
        gateway = surroundings.gateway(settings)
        key = SigningKey.load(settings.signing_key)
        session = open_session(gateway, settings.governance_key, key, settings.realm, names)
        watched = journal.watching(surroundings, session.plan)
        around = Surroundings(grid, settings, watched, gateway)
        if isinstance(session, EvaluationSession):
            journal.finish_evaluation(EvaluationRun(session, around).finish())
        else:
            journal.finish(TrainingRun(session, around).finish())
