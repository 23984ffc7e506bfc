"""A full round on made-up rows, before the first real one."""

import subprocess
import sys
from pathlib import Path

import typer

from clients.commands.options import ContractName, SettingsOption, contract_digest
from clients.settings import NodeSettings
from clients.state import StateDir
from fedcore.errors import InvalidRecordError

# By its name only: a node does not know the simulation, which an extra of its own brings.
_PROGRAM = "simulations.rehearsal"


def rehearse(settings: SettingsOption, contract: ContractName) -> None:
    """Do a full round on made-up rows through the real processes; nothing is spent, nothing sent.

    Your settings and your policy count; governance, server and other units are made up as well.
    Needs the extra `simulation`.
    """
    loaded = NodeSettings.load(settings)
    document = kept_contract(contract, loaded)
    command = [sys.executable, "-m", _PROGRAM, str(settings), str(document)]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def kept_contract(name: str, settings: NodeSettings) -> Path:
    """Return the file of a contract that this node keeps, or that is given as a file.

    Raises: InvalidRecordError `rehearsal.contract_missing`: it is not fetched, because a rehearsal
        sends nothing.
    """
    path = StateDir(settings.state_dir).contract(contract_digest(name, settings))
    if not path.exists():
        raise InvalidRecordError(
            "rehearsal.contract_missing",
            "this node has not kept that contract yet: run `fedpact node check` first, or name "
            "the signed contract's file",
        )
    return path
