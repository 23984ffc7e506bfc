"""The documentation is true: reason codes, settings, help texts and examples."""

import ast
import doctest
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points

import click
import pytest

from fedcore import cli

CODE = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
FILE_NAME = re.compile(
    r".*\.(crt|csv|db|fedpact|html|jsonl?|key|lock|pem|pub|safetensors|sig|toml)"
)
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HELP_BLOCK = re.compile(r"<!-- help: (fedpact[^>]*?) -->\n+```\w*\n(.*?)^```$", re.M | re.S)


def derived_from(product, bases):
    """The names of all classes that derive from one of `bases`, directly or through others."""
    names = set(bases)
    classes = [n for s in product for n in ast.walk(s.tree) if isinstance(n, ast.ClassDef)]
    while True:
        more = {c.name for c in classes if names & {ast.unparse(b) for b in c.bases}} - names
        if not more:
            return names
        names |= more


def string_constants(node):
    return [
        c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)
    ]


def arguments_of(product, are_called):
    """All calls of the product of which `are_called` says yes, by the called name."""
    calls = (n for s in product for n in ast.walk(s.tree) if isinstance(n, ast.Call))
    return [call for call in calls if are_called(ast.unparse(call.func))]


def codes_in(node):
    return {text for text in string_constants(node) if CODE.fullmatch(text)}


def reason_codes(product):
    """Every code that the first argument of an error's constructor spells out, and every text of
    that form about the same subjects, wherever it stands: in a rule's (code, sentence), in the call
    of a function that raises it. File names, events of the log and names of checks are no codes.
    """
    errors = derived_from(product, {"FedError"})
    raising = arguments_of(product, lambda name: name.rpartition(".")[2] in errors)
    raised = set().union(*(codes_in(call.args[0]) for call in raising if call.args))
    subjects = {code.partition(".")[0] for code in raised}
    mentioned = set().union(*(codes_in(source.tree) for source in product))
    others = arguments_of(product, lambda name: name in {"_Rule", "Check"} or name[:4] == "log.")
    named = set().union(*(codes_in(call) for call in others))
    return raised | {
        code
        for code in mentioned - named
        if code.partition(".")[0] in subjects and not FILE_NAME.fullmatch(code)
    }


def settings_fields(product):
    classes = derived_from(product, {"BaseSettings"})
    return {
        ast.unparse(field.target)
        for source in product
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef) and node.name in classes
        for field in node.body
        if isinstance(field, ast.AnnAssign) and ast.unparse(field.target) != "model_config"
    }


def documents(root):
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def undocumented(root, page, names):
    text = (root / "docs" / "reference" / page).read_text(encoding="utf-8")
    return {name for name in names if f"`{name}`" not in text}


def test_every_reason_code_is_documented(root, product):
    assert undocumented(root, "reason-codes.md", reason_codes(product)) == set()


def test_every_setting_is_documented(root, product):
    assert undocumented(root, "settings.md", settings_fields(product)) == set()


def test_help_texts_in_the_documents_are_the_real_ones(root):
    for document in documents(root):
        for command, text in HELP_BLOCK.findall(document.read_text(encoding="utf-8")):
            program = "from fedcore.cli import main; main()"
            done = subprocess.run(
                [sys.executable, "-c", program, *command.split()[1:], "--help"],
                env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            shown = [line.rstrip() for line in text.strip().splitlines()]
            real = [line.rstrip() for line in done.stdout.strip().splitlines()]
            assert shown == real, f"{document.name}: {command}"


def test_the_readme_shows_the_help_of_the_root_command(root):
    shown = HELP_BLOCK.findall((root / "README.md").read_text(encoding="utf-8"))
    assert "fedpact" in [command for command, _ in shown]


def test_python_examples_in_the_documents_run(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for document in documents(root):
        # The blocks of one document are one program, read from top to bottom.
        names = {"__name__": "example"}
        for language, code in FENCE.findall(document.read_text(encoding="utf-8")):
            if language == "python":
                run_example(document.name, code, names)


def run_example(title, code, names):
    if ">>>" not in code:
        exec(compile(code, title, "exec"), names)
        return
    example = doctest.DocTestParser().get_doctest(code, {}, title, title, 0)
    example.globs = names
    failures: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(example, out=failures.append, clear_globs=False)
    assert failures == [], "".join(failures)


def commands_in(text):
    """Each `fedpact ...` command of a document's console blocks, as its words; what a block has
    exported before stands in its place.
    """
    found = []
    for language, code in FENCE.findall(text):
        exported = {}
        for line in code.replace("\\\n", " ").splitlines() if language == "console" else ():
            typed = line.removeprefix("$ ").partition(" > ")[0]
            if export := re.fullmatch(r'export (\w+)="([^"]*)"', typed):
                exported[export[1]] = export[2]
            for name, value in exported.items():
                typed = typed.replace(f"${name}", value)
            words = shlex.split(typed, comments=True)
            found += [words[1:]] if words[:1] == ["fedpact"] else []
    return found


def misused(words):
    """What is wrong with a command as a document shows it: unknown words, missing options."""
    (entry,) = entry_points(group=cli.COMMANDS_GROUP, name=words[0])
    command, left = cli.load_command(entry), words[1:]
    while isinstance(command, click.Group):
        command, left = command.commands[left[0]], left[1:]
    given, surplus, _ = command.make_parser(click.Context(command)).parse_args(list(left))
    given = {name: list(v) if isinstance(v, tuple) else v for name, v in given.items()}
    # What is asked for when it is left out may be left out.
    needed = [p.name for p in command.params if p.required and not getattr(p, "prompt", None)]
    return surplus + [name for name in needed if not isinstance(given.get(name), str | list)]


def test_commands_in_the_documents_exist_with_their_options(root):
    shown = [c for page in documents(root) for c in commands_in(page.read_text(encoding="utf-8"))]
    assert {shlex.join(words): misused(words) for words in shown if misused(words)} == {}
    assert len(shown) > 10


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("node sync -s node.toml", []),
        ("node sync", ["settings"]),
        ("node sync now -s node.toml", ["now"]),
        ("verify model.fedpact", ["key"]),
    ],
)
def test_a_command_that_is_shown_wrongly_is_found(line, wrong):
    assert misused(line.split()) == wrong


def test_links_between_the_documents_lead_somewhere(root):
    link = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
    broken = [
        f"{document.relative_to(root)}: {target}"
        for document in [*documents(root), root / "CONTRIBUTING.md"]
        for target in link.findall(document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert broken == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("ForbiddenError('permit.foreign', 'text')", {"permit.foreign"}),
        ("errors.RefusedError([('dpia.expired', 'It is over.')])", {"dpia.expired"}),
        (
            "FedError('node.late', 't')\nrule = 'node.early', 'sentence'",
            {"node.late", "node.early"},
        ),
        ("FedError('node.late', 't')\nhelper(path, 'node.lost')", {"node.late", "node.lost"}),
        ("FedError('node.late', 't')\nopen('node.toml')\nlog.info('node.up')", {"node.late"}),
        ("print('a.b')", set()),
    ],
)
def test_reason_codes_are_found_where_they_are_raised(product, code, found):
    """The search itself is checked: a search that finds nothing would pass every document."""

    class Probe:
        tree = ast.parse(code)

    errors = [source for source in product if str(source.path) == "fedcore/errors.py"]
    assert reason_codes([*errors, Probe]) == found
