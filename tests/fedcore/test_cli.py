import subprocess
import sys
from importlib.metadata import EntryPoint
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from fedcore import cli

HEAVY = ("torch", "flwr", "fastapi", "opacus", "sqlmodel", "polars", "clients.cli")

PROBE = '''"""The module."""
import typer
from fedcore.errors import FedError, RefusedError

app = typer.Typer(help="The group.")

@app.command()
def fail() -> None:
    raise FedError("bundle.unreadable", "The file is not a bundle.", "a secret detail")

def refuse() -> None:
    raise RefusedError([("dpia.expired", "It is over."), ("cohort.too_small", "Too few.")])

def greet(name: str) -> None:
    """Greet someone.

    More words.
    """
    typer.echo(f"hello {name}")
'''

# Prefix of a program for a fresh interpreter in which one package cannot be found.
BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""


def run_python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def entry_point(target: str, name: str = "probe") -> EntryPoint:
    return EntryPoint(name=name, value=target, group=cli.COMMANDS_GROUP)


def invoke(target: str, *arguments: str) -> Result:
    root = cli.RootCommand({"probe": entry_point(target)})
    return CliRunner().invoke(root, ["probe", *arguments])


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that an entry point can name; each test gets a name of its own."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source: str) -> str:
        name = f"probe_{uuid4().hex}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write


def test_listing_the_commands_imports_none_of_them():
    program = (
        "import sys, atexit\n"
        f"heavy = {HEAVY!r}\n"
        "atexit.register(lambda: print('LOADED', [m for m in heavy if m in sys.modules]))\n"
        "from fedcore.cli import main\n"
        "main()"
    )
    done = run_python(program, "--help")
    assert done.returncode == 0, done.stderr
    for command in ("verify", "log", "node", "server", "governance", "simulate", "demo"):
        assert f"\n  {command} " in done.stdout
    assert "LOADED []" in done.stdout


def test_version_is_that_of_the_distribution():
    done = run_python("from fedcore.cli import main; main()", "--version")
    assert (done.returncode, done.stdout) == (0, "fedpact, version 0.2.0\n")


def test_an_unknown_command_is_wrong_usage():
    done = run_python("from fedcore.cli import main; main()", "nonsense")
    assert done.returncode == 2
    assert "No such command 'nonsense'" in done.stderr


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("node", "clients", "node"),
        ("server", "fedserver", "server"),
        ("governance", "governance", "governance"),
        ("simulate", "simulations", "simulation"),
        ("demo", "simulations", "demo"),
    ],
)
def test_a_missing_package_exits_3_and_names_the_extra(command, package, extra):
    program = BLOCK.format(package=package) + "from fedcore.cli import main; main()"
    done = run_python(program, command, "--help")
    assert done.returncode == 3, done.stderr
    assert f"pip install 'fedpact[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_package_that_a_command_imports_late_is_named_too(module):
    name = module("def probe():\n    import absent_package_x\n")
    result = invoke(f"{name}:probe [node]")
    assert result.exit_code == 3
    hint = "pip install 'fedpact[node]'"
    assert result.stderr == f"error: `absent_package_x` is not installed: {hint}\n"


@pytest.mark.parametrize("target", ["{name}:probe", "{name}:probe [node]"])
def test_a_missing_module_of_our_own_is_a_defect_and_is_not_hidden(module, target):
    name = module("import fedcore.absent_module\ndef probe(): ...\n")
    result = invoke(target.format(name=name))
    assert isinstance(result.exception, ModuleNotFoundError)


def test_a_missing_package_of_the_base_install_is_a_defect(module):
    name = module("import absent_package_x\ndef probe(): ...\n")
    assert isinstance(invoke(f"{name}:probe").exception, ModuleNotFoundError)


def test_an_error_of_the_product_is_one_sentence_and_exit_1(monkeypatch, module):
    monkeypatch.delenv("FEDPACT_DEBUG", raising=False)
    name = module(PROBE)
    result = invoke(f"{name}:app", "fail")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "error: The file is not a bundle. (bundle.unreadable)\n"


def test_a_refusal_names_all_its_reasons(module):
    result = invoke(f"{module(PROBE)}:refuse")
    assert result.exit_code == 1
    assert result.stderr == "error: It is over. Too few. (dpia.expired, cohort.too_small)\n"


@pytest.mark.parametrize(("debug", "shown"), [("1", True), ("0", False), ("", False)])
def test_the_detail_is_shown_only_for_debugging(monkeypatch, module, debug, shown):
    monkeypatch.setenv("FEDPACT_DEBUG", debug)
    result = invoke(f"{module(PROBE)}:app", "fail")
    assert ("a secret detail" in result.stderr) is shown


def test_any_other_exception_is_not_hidden(module):
    name = module("def probe():\n    raise ValueError('a defect')\n")
    assert isinstance(invoke(f"{name}:probe").exception, ValueError)


def test_a_plain_function_is_a_command(module):
    result = invoke(f"{module(PROBE)}:greet", "Ada")
    assert (result.exit_code, result.stdout) == (0, "hello Ada\n")


def test_a_group_with_one_command_is_still_a_group(module):
    result = invoke(f"{module(PROBE)}:app", "--help")
    assert "fail" in result.stdout
    assert "--install-completion" not in result.stdout


def test_wrong_usage_of_a_command_exits_2(module):
    assert invoke(f"{module(PROBE)}:greet").exit_code == 2


@pytest.mark.parametrize(
    ("attribute", "summary"),
    [("greet", "Greet someone."), ("app", "The group."), ("other", "The module.")],
)
def test_the_summary_is_read_without_running_the_module(module, attribute, summary):
    name = module(PROBE + "\nraise SystemExit('it was run')\n")
    assert cli.summary_of(entry_point(f"{name}:{attribute}")) == summary


def test_the_summary_of_an_absent_module_is_empty():
    assert cli.summary_of(entry_point("absent_module_x:app")) == ""
