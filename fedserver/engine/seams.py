"""What the server uses of Flower beyond its public interface, verified before anything starts.

One minor version is pinned. A release that renamed or moved one of these is refused here, in one
sentence, and not found out in the middle of a run.
"""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from fedcore.errors import FedError

FLOWER = "1.41"
# What is called or subclassed, with the parameters that are given by name.
_CALLED: Mapping[str, frozenset[str]] = {
    "flwr.superlink.main:create_app": frozenset({"config", "superlink_lifespan_class"}),
    "flwr.superlink.cli.flower_superlink:SuperLinkLifespan": frozenset({"config"}),
    "flwr.superlink.config_loader:SuperLinkLifespanConfig": frozenset(
        {"superexec_auth_secret", "enable_supernode_auth", "isolation", "database", "authn_plugin"}
    ),
    "flwr.superlink.runtime:run_serverapp": frozenset(
        {"runtime_api_address", "log_queue", "token", "insecure", "runtime_dependency_install"}
    ),
    "flwr.supercore.control:ControlHttpClient.from_server_address": frozenset(
        {"server_address", "insecure", "root_certificates", "interceptors"}
    ),
    "flwr.supercore.runtime:RuntimeHttpClient.from_server_address": frozenset(
        {"server_address", "insecure", "root_certificates", "interceptors"}
    ),
    "flwr.supercore.inflatable.inflatable_utils:pull_objects": frozenset({"initial_backoff"}),
}
PULL_BACKOFF_S = 0.05


def verify_seams() -> None:
    """Verify that the installed Flower is the one that this server was written for.

    Raises: FedError `engine.unsupported`.
    """
    verify_version(str(import_module("flwr").__version__))
    for name, parameters in _CALLED.items():
        _verify_seam(name, parameters)


def verify_version(version: str) -> None:
    """Verify the minor version. Raises: FedError `engine.unsupported`."""
    if ".".join(version.split(".")[:2]) != FLOWER:
        raise FedError(
            "engine.unsupported",
            f"flwr {version} is installed and this server needs {FLOWER}: "
            f"pip install 'flwr~={FLOWER}.0'",
        )


def quicken_pulls() -> None:
    """Let this process look again after 0.05 s, not 1 s, for a reply that is still on its way."""
    pull: Any = import_module("flwr.supercore.inflatable.inflatable_utils").pull_objects
    pull.__kwdefaults__ = {**pull.__kwdefaults__, "initial_backoff": PULL_BACKOFF_S}


def _verify_seam(name: str, parameters: frozenset[str]) -> None:
    module, _, path = name.partition(":")
    try:
        found: Any = import_module(module)
        for step in path.split("."):
            found = getattr(found, step)
        missing = parameters - set(inspect.signature(found).parameters)
    except (ImportError, AttributeError, ValueError) as error:
        raise _gone(name) from error
    if missing:
        raise _gone(f"{name}({', '.join(sorted(missing))})")


def _gone(name: str) -> FedError:
    return FedError(
        "engine.unsupported",
        f"the installed flwr has no {name}: install the version that this release pins",
    )
