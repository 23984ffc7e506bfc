"""What a node does with a million opt-outs.

Each part of it is a file `node_*.py` beside this one, with its TARGETS and `measure`.

    make bench NAME=node ARGS=--json
    .venv/bin/python benchmarks/node.py --json [--count 1000000] [--kinds sqlite postgresql]
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

# Python looks here first, where `governance.py` would pass for the package of that name.
HERE = Path(__file__).parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE.resolve()]


def load(name: str) -> Any:
    """Return a file beside this one as a module."""
    spec: Any = importlib.util.spec_from_file_location(f"bench_{name}", HERE / f"{name}.py")
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[f"bench_{name}"] = module
    spec.loader.exec_module(module)
    return module


databases = load("governance").databases
PARTS = (load("node_opt_outs"),)


def main() -> None:
    """Print one JSON object with figures, targets, missed and versions."""
    from simulations.report import versions

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="kept for `make bench`; always JSON")
    parser.add_argument("--count", type=int, default=1_000_000, help="opt-outs, and customers")
    parser.add_argument("--kinds", nargs="+", default=["sqlite", "postgresql"])
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    targets: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch, databases(Path(scratch)) as new_url:
        for part in PARTS:
            targets |= part.TARGETS
            figures |= part.measure(new_url, Path(scratch), arguments.kinds, arguments.count)
    figures["load"] = round(os.getloadavg()[0], 1)
    missed = [name for name, most in targets.items() if figures.get(name, most) > most]
    result = {"figures": figures, "targets": targets, "missed": missed, "versions": versions()}
    print(json.dumps(result, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
