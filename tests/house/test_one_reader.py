"""One reader of raw rows: nothing else in a node opens the source, so that no way leads around the
filter of opt-outs and consents.
"""

import ast

import pytest

# For each name that leads to rows: the files that may use it.
USES = {
    # Opens the source's files and databases.
    "read_file": {"clients/sources.py", "clients/source_files.py"},
    # Cells as text, unfiltered: the reader alone.
    "load_rows": {"clients/sources.py", "clients/data.py"},
    # The reader's Examples: training; the simulator, with rows of its own that no unit holds.
    "load_examples": {"clients/data.py", "clients/examples.py", "simulations/scoring.py"},
    # The same without those who are left out: for training, and to tell segments on the node.
    "read_examples": {"clients/examples.py", "clients/node.py", "clients/segments.py"},
    # For the operator alone, and no row leaves them: faults counted, and is a customer there.
    "check_source": {"clients/data.py", "clients/site.py"},
    "holds_customer": {"clients/data.py", "clients/site.py"},
    # Identifiers alone, of all rows, to carry over what is known under former pseudonym keys.
    "load_identifiers": {"clients/data.py", "clients/rotation.py"},
    "find_row": {"clients/data.py", "clients/subject_reports.py"},
}
# What opens a file of rows without the source's own functions.
OPENERS = {"read_csv", "read_parquet", "read_ipc", "read_database", "scan_csv", "scan_parquet"}
OPENER_FILES = {"clients/source_files.py"}
# The doctor looks whether there is a first byte, who may read the file, and when it was written;
# the check and its report say what the source is called.
PLACE_FILES = {
    "clients/sources.py",
    "clients/doctor/sources.py",
    "clients/commands/setup.py",
    "clients/quality/report.py",
}
# The doctor has a check of this name, which is none of the reader's.
OWN = {
    ("clients/doctor/sources.py", "check_source"),
    ("clients/doctor/examination.py", "check_source"),
}


def names_in(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.FunctionDef):
            yield node.name


def around_the_reader(sources):
    """Every (file, name) by which rows are reached beside the reader."""
    found = set()
    for source in sources:
        path = source.path.as_posix()
        for name in names_in(source.tree):
            is_open = name in USES and path not in USES[name]
            if path.startswith("clients/"):
                is_open |= name in OPENERS and path not in OPENER_FILES
                is_open |= name == "source" and path not in PLACE_FILES and _reads_place(source)
            if is_open and (path, name) not in OWN:
                found.add((path, name))
    return found


def _reads_place(source):
    """Whether a file takes the place of the rows from settings."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == "source"
        and "settings" in ast.unparse(node.value)
        for node in ast.walk(source.tree)
    )


def test_nothing_beside_the_reader_comes_to_rows(product):
    assert around_the_reader(product) == set()


def test_training_reads_without_those_who_are_left_out(product):
    """The one call of a node passes what its opt-outs and consents leave out, and its day."""
    calls = [
        node
        for source in product
        if source.path.parts[0] == "clients"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "load_examples"
    ]
    assert [[ast.unparse(one) for one in call.args[-2:]] for call in calls] == [
        ["left_out", "site.runtime.clock.now().date()"]
    ]
    kept = [
        ast.unparse(node.value)
        for source in product
        if source.path.as_posix() == "clients/examples.py"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Assign) and "left_out" in ast.unparse(node.targets[0])
    ]
    assert kept == ["site.reading(contract, plan.purpose)"]


@pytest.mark.parametrize(
    "code",
    [
        "from clients.sources import load_rows",
        "from clients.data import load_examples",
        "from clients import source_files\nsource_files.read_file(path, {})",
        "import polars as pl\npl.read_csv(path)",
        "found.settings.source.read_bytes()",
    ],
)
def test_a_way_around_the_reader_is_found(code):
    """The search itself is checked: one that finds nothing would pass every house."""

    class Probe:
        from pathlib import PurePosixPath as _Path

        path = _Path("clients/probe.py")
        tree = ast.parse(code)

    assert around_the_reader([Probe])
