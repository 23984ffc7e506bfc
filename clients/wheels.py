"""A folder from which a machine without internet installs exactly what runs here.

Guarantees: every package that the requirement reaches is in it, as the wheel of the very version
    that is installed here, and nothing else; each is bound by its sha256 in `requirements.txt`, so
    that the installation refuses any other file.
Reference: PEP 425 (which machines a wheel fits), PEP 503 (names), pip's hash-checking mode.
"""

import hashlib
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from fedcore.errors import ConflictError, FedError, InvalidRecordError, NotFoundError

REQUIREMENTS, SUMS, INSTALL = "requirements.txt", "SHA256SUMS", "INSTALL.txt"
_OWN = "fedpact"
_STDERR = 2  # what pip says is no result of ours
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


@dataclass(frozen=True)
class Bundle:
    """A finished folder.

    Attributes:
        out: the folder.
        wheels: how many packages are in it.
        size: of all wheels, in bytes.
        digest: sha256 of its `SHA256SUMS`, to be compared on the other side by another way.
    """

    out: Path
    wheels: int
    size: int
    digest: str


def write_bundle(
    out: Path,
    requirement: str = "fedpact[node]",
    pip_options: Sequence[str] = (),
    own_wheel: Path | None = None,
) -> Bundle:
    """Fill a new folder with wheels, requirements, sums and the words on how to install.

    Args: `requirement` names what is installed here; `pip_options` are passed to `pip download`,
        for example an index of one's own; `own_wheel` is fedpact's wheel: without it, it is built
        from the source tree when it runs from there, and downloaded otherwise.
    Raises: ConflictError `wheels.out_taken`; InvalidRecordError `wheels.requirement_invalid`,
        `wheels.other_version`; NotFoundError `wheels.not_installed`; FedError `wheels.unavailable`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConflictError("wheels.out_taken", f"{out} is not empty: name a new folder")
    wanted = _requirement(requirement)
    pins = pins_of(wanted)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        draft = Path(folder) / "bundle"
        draft.mkdir()
        if _OWN in pins:
            _add_own(draft, pins[_OWN], pip_options, own_wheel)
        _download({k: v for k, v in pins.items() if k != _OWN}, draft, pip_options)
        made = _seal(draft, wanted, pins)
        draft.replace(out)  # whole, or not at all
    return replace(made, out=out)


def pins_of(requirement: Requirement) -> dict[str, str]:
    """Return name and version of everything installed that a requirement reaches, itself included.

    Raises: NotFoundError `wheels.not_installed`.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    pending = [requirement]
    while pending:
        wanted = pending.pop()
        name, extras = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        installed = _installed(wanted)
        found[name] = installed.version
        pending += _requirements_of(installed, extras)
    return dict(sorted(found.items()))


def _requirements_of(installed: Distribution, extras: frozenset[str]) -> list[Requirement]:
    environments = [{"extra": extra} for extra in extras] or [{"extra": ""}]
    return [
        needed
        for needed in map(Requirement, installed.requires or [])
        if needed.marker is None or any(needed.marker.evaluate(e) for e in environments)
    ]


def _installed(wanted: Requirement) -> Distribution:
    try:
        installed = distribution(wanted.name)
    except PackageNotFoundError:
        installed = None
    if installed is None or not wanted.specifier.contains(installed.version, prereleases=True):
        raise NotFoundError(
            "wheels.not_installed",
            f"{wanted} is not installed here, and a bundle holds what runs here: install it first",
        )
    return installed


def _requirement(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise InvalidRecordError(
            "wheels.requirement_invalid",
            f"{text} is no requirement: write one like fedpact[node]",
            str(error),
        ) from error


def _add_own(out: Path, version: str, pip_options: Sequence[str], own_wheel: Path | None) -> None:
    source = _source_tree()
    if own_wheel is not None:
        _copy_own(own_wheel, version, out)
    elif source is not None:
        _pip(
            ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source)],
            "fedpact cannot be built from its source tree: install hatchling, or build the wheel "
            "elsewhere and name it with --fedpact-wheel",
        )
    else:
        _download({_OWN: version}, out, pip_options)


def _copy_own(wheel: Path, version: str, out: Path) -> None:
    try:
        name, found, *_ = parse_wheel_filename(wheel.name)
    except InvalidWheelFilename:
        name, found = canonicalize_name(""), None
    if (name, str(found)) != (_OWN, version) or not wheel.is_file():
        raise InvalidRecordError(
            "wheels.other_version",
            f"{wheel} is no wheel of fedpact {version}, which runs here: name that one",
        )
    shutil.copy(wheel, out)


def _source_tree() -> Path | None:
    """Return the folder that fedpact runs from, or None when it was installed as a wheel."""
    text = distribution(_OWN).read_text("direct_url.json")
    origin = json.loads(text) if text else {}
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlsplit(origin["url"]).path))


def _download(pins: Mapping[str, str], out: Path, pip_options: Sequence[str]) -> None:
    if not pins:
        return
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "pins.txt"
        asked.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
        only = ["--only-binary", ":all:", "--no-deps", "--dest", str(out), "-r", str(asked)]
        _pip(
            ["download", *pip_options, *only],
            "pip did not get every wheel; what it said stands above. Give it other options after "
            "`--`, such as the index that has them",
        )


def _pip(words: Sequence[str], way_out: str) -> None:
    done = subprocess.run([*_PIP, *words], stdout=_STDERR, check=False)
    if done.returncode:
        raise FedError("wheels.unavailable", way_out, f"pip ended with {done.returncode}")


def _seal(out: Path, wanted: Requirement, pins: Mapping[str, str]) -> Bundle:
    found = {}
    for wheel in sorted(out.glob("*.whl")):
        name, version, *_ = parse_wheel_filename(wheel.name)
        found[name] = (str(version), wheel)
    if {name: version for name, (version, _) in found.items()} != dict(pins):
        missing = sorted(set(pins) - set(found)) or sorted(set(found) - set(pins))
        raise FedError(
            "wheels.unavailable",
            f"the folder does not hold what was asked for: {', '.join(missing) or 'versions'}",
        )
    wheels = [wheel for _, wheel in found.values()]
    lines = [_locked(name, found[name], wanted) for name in sorted(found)]
    (out / REQUIREMENTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (out / INSTALL).write_text(_words(), encoding="utf-8")
    listed = [*wheels, out / REQUIREMENTS, out / INSTALL]
    sums = "".join(f"{_sha256(path)}  {path.name}\n" for path in listed)
    (out / SUMS).write_text(sums, encoding="utf-8")
    size = sum(wheel.stat().st_size for wheel in wheels)
    return Bundle(out, len(wheels), size, _sha256(out / SUMS))


def _locked(name: str, found: tuple[str, Path], wanted: Requirement) -> str:
    version, wheel = found
    is_root = name == canonicalize_name(wanted.name)
    extras = f"[{','.join(sorted(wanted.extras))}]" if is_root and wanted.extras else ""
    return f"{name}{extras}=={version} --hash=sha256:{_sha256(wheel)}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _words() -> str:
    python = f"{platform.python_implementation()} {'.'.join(platform.python_version_tuple()[:2])}"
    system = f"{platform.system()} on {platform.machine()}"
    return f"""\
Install from this folder, on a machine without internet.

The machine must have {python} on {system}, as the one where this folder was made.

1. Compare the sha256 of {SUMS} with the one that `fedpact node bundle` has printed, by another way
   than the one on which this folder came. Then, in this folder:

       sha256sum --check {SUMS}

2. Make a virtual environment and install into it:

       python3 -m venv fedpact
       fedpact/bin/python -m pip install --no-index --find-links . \\
           --require-hashes -r {REQUIREMENTS}

3. See what is left to do:

       fedpact/bin/fedpact node doctor --settings node.toml
"""
