"""Every public name says what it is; no module is a drawer for odds and ends."""

import ast

VAGUE = {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"}


def public_names(tree):
    """Yield (qualified name, node) of public functions, classes and methods of public classes."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    pending = [("", node) for node in tree.body]
    while pending:
        prefix, node = pending.pop()
        if not isinstance(node, kinds) or node.name.startswith("_"):
            continue
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            pending += [(f"{prefix}{node.name}.", child) for child in node.body]


def is_annotated(node):
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    arguments += [extra for extra in (node.args.vararg, node.args.kwarg) if extra]
    named = [argument for argument in arguments if argument.arg not in {"self", "cls"}]
    return node.returns is not None and all(argument.annotation for argument in named)


def offenders(product, offends):
    return [
        f"{source.path}:{node.lineno} {name}"
        for source in product
        for name, node in public_names(source.tree)
        if offends(node)
    ]


def is_overload_or_setter(node):
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    return any(name.endswith((".setter", "overload", "override")) for name in decorators)


def test_every_public_name_has_a_docstring(product):
    assert (
        offenders(product, lambda n: not ast.get_docstring(n) and not is_overload_or_setter(n))
        == []
    )


def test_every_public_function_is_fully_annotated(product):
    assert (
        offenders(product, lambda n: not isinstance(n, ast.ClassDef) and not is_annotated(n)) == []
    )


def test_every_module_with_code_says_what_it_is_for(product):
    assert [str(s.path) for s in product if s.text and not ast.get_docstring(s.tree)] == []


def test_package_files_are_empty_so_that_nothing_is_imported_by_the_way(product):
    assert [str(s.path) for s in product if s.path.name == "__init__.py" and s.text] == []


def test_no_module_has_a_vague_name(product):
    assert [str(s.path) for s in product if VAGUE & {s.path.stem, *s.path.parts}] == []


def test_every_package_says_that_it_is_typed(root):
    packages = ("fedcore", "fedserver", "clients", "governance", "registry", "simulations")
    assert [name for name in packages if not (root / name / "py.typed").is_file()] == []
