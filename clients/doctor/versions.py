"""Do this software and what it builds on fit each other, and what governance accepts?"""

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, entry_points, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from clients.doctor.findings import Circumstances, Finding, failure, ok, warning
from fedcore.errors import FedError
from fedcore.version import VERSION

_NODE = {"extra": "node"}
_SHOWN = re.compile(r"flwr|opacus|torch")


def check_versions(found: Circumstances) -> Iterator[Finding]:
    """Compare installed packages with what the node asks for; none of them is imported."""
    needed = metadata("fedpact")["Requires-Python"]
    if platform.python_version() not in SpecifierSet(needed):
        yield failure(
            "version.python_unfit",
            f"Python {platform.python_version()} does not run this version of fedpact",
            f"install Python {needed}",
        )
    yield from _packages(requires("fedpact") or [])
    yield from _tasks(found)
    yield from _accepted(found)


def _packages(requirements: list[str]) -> Iterator[Finding]:
    unfit = False
    shown = []
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate(_NODE):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            unfit = True
            yield _unfit("version.package_missing", f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            unfit = True
            sentence = f"{requirement.name} {found} is installed, not {requirement.specifier}"
            yield _unfit("version.package_unfit", sentence)
        elif _SHOWN.fullmatch(requirement.name):
            shown.append(f"{requirement.name} {found}")
    if not unfit:
        yield ok(f"Python {platform.python_version()}, {', '.join(shown)}: as required")


def _unfit(code: str, sentence: str) -> Finding:
    return failure(code, sentence, "pip install 'fedpact[node]', or install the bundle again")


def _tasks(found: Circumstances) -> Iterator[Finding]:
    installed = {entry.name for entry in entry_points(group="fedpact.tasks")}
    missing = sorted(set(found.settings.tasks or ()) - installed)
    if missing:
        yield warning(
            f"the settings name tasks that are not installed: {', '.join(missing)}",
            f"install what brings them, or name some of: {', '.join(sorted(installed))}",
        )


def _accepted(found: Circumstances) -> Iterator[Finding]:
    about = found.about if found.has_state else None
    if about is None or isinstance(about, FedError):
        return  # told by the check of governance
    accepted = ", ".join(about.accepted_versions)
    if VERSION in about.accepted_versions:
        yield ok(f"governance accepts fedpact {VERSION}")
    else:
        yield failure(
            "version.not_accepted",
            f"this is fedpact {VERSION}; governance accepts {accepted}",
            "install one of these versions, or ask governance to accept this one",
        )
