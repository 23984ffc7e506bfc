"""The bundle that a server sends to the nodes with a run: three small files and no code.

Flower puts what it receives first on a node's import path. So the federation agrees on one bundle,
to the byte: the server sends this one, and a node accepts this one.
"""

import hashlib

PUBLISHER = "fedpact"
NAME = "fedpact"
BUNDLE_VERSION = "1.0.0"
SERVER_COMPONENT = "fedserver.app:app"
CLIENT_COMPONENT = "clients.app:app"
MANIFEST = ".info/CONTENT"

# As Flower's own builder writes it, so that `flwr build` gives the same bytes.
_PYPROJECT = f"""[project]
name = "{NAME}"
version = "{BUNDLE_VERSION}"
description = "Runs the fedpact that each party has installed; carries no code"
dependencies = [
    "flwr>=1.41",
]

[project.license]
file = "LICENSE"

[tool.flwr.app]
publisher = "{PUBLISHER}"
fab-format-version = 1
flwr-version-target = "1.41.0"
fab-include = [
    "LICENSE",
    "fedapp.toml",
]

[tool.flwr.app.components]
serverapp = "{SERVER_COMPONENT}"
clientapp = "{CLIENT_COMPONENT}"

[tool.flwr.app.config]
"""
_LICENSE = """SPDX-License-Identifier: Apache-2.0

Licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0
"""
_FEDAPP = """schema = "fedapp/1"
code = "none: every party runs what it has installed itself"
"""


def app_configuration() -> dict[str, str]:
    """Return the names that a run configures, with their defaults: plan and run, nothing else."""
    return {"plan-digest": "", "run-id": ""}


def app_files() -> dict[str, bytes]:
    """Return the files of the app that Flower makes the bundle from, by path.

    Guarantees: none of them is code.
    """
    settings = "".join(f'{name} = "{value}"\n' for name, value in app_configuration().items())
    texts = {
        "pyproject.toml": _PYPROJECT + settings,
        "LICENSE": _LICENSE,
        "fedapp.toml": _FEDAPP,
    }
    return {path: text.encode("ascii") for path, text in texts.items()}


def bundle_files() -> dict[str, bytes]:
    """Return every file of the bundle by path, in the bundle's order: the app's and its manifest.

    Guarantees: the same bytes on every machine and in every release that speaks this bundle
        version; a bundle with anything more, less or else is another bundle.
    """
    files = app_files()
    lines = [
        f"{path},{hashlib.sha256(data).hexdigest()},{8 * len(data)}" for path, data in files.items()
    ]
    return {**files, MANIFEST: "\n".join(lines).encode("ascii")}
