"""Options and arguments that several commands of a node take."""

import re
from pathlib import Path
from typing import Annotated

import typer

from clients.settings import NodeSettings
from fedcore import canonical
from fedcore.contracts import Contract
from fedcore.errors import InvalidRecordError
from fedcore.signing import Envelope

SettingsOption = Annotated[
    Path, typer.Option("--settings", "-s", help="The node's settings (TOML).")
]
ContractName = Annotated[
    str,
    typer.Option("--contract", "-c", help="A signed contract's file, or its digest (sha256:...)."),
]
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def contract_digest(name: str, settings: NodeSettings) -> str:
    """Return the digest of a contract, and keep a signed one that comes as a file.

    Raises: InvalidRecordError `contract.unreadable`; SignatureError for another signer than
        governance, or another realm.
    """
    if _DIGEST.fullmatch(name):
        return name
    from clients.handovers import KeyStore
    from clients.state import StateDir
    from fedcore.atomic import write_atomically

    try:
        data = Path(name).read_bytes()
    except OSError as error:
        raise InvalidRecordError(
            "contract.unreadable",
            f"{name} is neither a readable file nor a digest (sha256: and 64 hex digits)",
            str(error),
        ) from error
    envelope = Envelope.from_json(canonical.parse(data))
    contract = KeyStore(settings).load().open(envelope, Contract, settings.realm)
    write_atomically(StateDir(settings.state_dir).contract(contract.digest), envelope.to_bytes())
    return contract.digest
