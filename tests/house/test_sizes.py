"""Sizes that keep a file readable in one sitting (DESIGN.md, names and sizes)."""

from statistics import median


def too_long_files(sources, limit):
    return {str(s.path): s.lines for s in sources if s.lines > limit}


def too_long_functions(sources, limit):
    return {
        f"{source.path}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for source in sources
        for node in source.functions()
        if node.end_lineno - node.lineno + 1 > limit
    }


def argument_count(node):
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return len([argument for argument in named if argument.arg not in {"self", "cls"}])


def test_no_file_is_above_400_lines(product):
    assert too_long_files(product, 400) == {}


def test_no_function_is_above_40_lines(product):
    assert too_long_functions(product, 40) == {}


def test_no_function_takes_more_than_6_arguments(product):
    # A command's parameters are its options. These three, and no others (ADR 0001).
    commands = {
        "governance/commands/service.py init": 8,
        "governance/commands/people.py create_account": 8,
        "fedserver/commands/server.py init": 10,
    }
    assert {
        f"{source.path} {node.name}": argument_count(node)
        for source in product
        for node in source.functions()
        if argument_count(node) > 6
    } == commands


def test_tests_benchmarks_and_migrations_stay_readable_as_well(around):
    assert too_long_files(around, 600) == {}
    # A migration is a flat list of operations that Alembic writes; its length says nothing.
    assert too_long_functions([s for s in around if s.path.parts[0] != "migrations"], 80) == {}


def test_half_of_the_files_have_at_most_150_lines(product):
    assert median(source.lines for source in product if source.lines) <= 150


def test_half_of_the_functions_have_at_most_12_lines(product):
    lengths = [n.end_lineno - n.lineno + 1 for source in product for n in source.functions()]
    assert median(lengths) <= 12
