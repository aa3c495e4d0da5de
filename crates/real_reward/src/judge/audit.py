"""Finds what silences or deceives a type checker. Trusted: it parses programs and never runs them."""

import ast

# Reading one of these names hides code from the checker, or makes code that the checker never sees.
HIDING = {
    "no_type_check": "real-suppressed",
    "no_type_check_decorator": "real-suppressed",
    "TYPE_CHECKING": "real-guarded-code",
    "MYPY": "real-guarded-code",
    "PY2": "real-guarded-code",
    "PY3": "real-guarded-code",
    "version_info": "real-guarded-code",
    "platform": "real-guarded-code",
    "exec": "real-dynamic-code",
    "eval": "real-dynamic-code",
    "compile": "real-dynamic-code",
    "__import__": "real-dynamic-code",
    "globals": "real-dynamic-code",
    "locals": "real-dynamic-code",
    "vars": "real-dynamic-code",
    "setattr": "real-dynamic-code",
    "__builtins__": "real-dynamic-code",
    "__globals__": "real-dynamic-code",
    "__dict__": "real-dynamic-code",
    "__code__": "real-dynamic-code",
    "f_globals": "real-dynamic-code",
    "f_locals": "real-dynamic-code",
    "f_builtins": "real-dynamic-code",
    "getmodule": "real-dynamic-code",
    "get_objects": "real-dynamic-code",
    "get_referrers": "real-dynamic-code",
    "FunctionType": "real-dynamic-code",
    "LambdaType": "real-dynamic-code",
    "CodeType": "real-dynamic-code",
    "cast": "real-cast",
    "TypeGuard": "real-cast",
    "TypeIs": "real-cast",
    "Mock": "real-any",
    "MagicMock": "real-any",
    "AsyncMock": "real-any",
    "NonCallableMock": "real-any",
}

# As attributes of anything these are common and harmless: `re.compile`, `table.eval`.
NAMES_ONLY = {"exec", "eval", "compile", "globals", "locals", "vars", "setattr", "MYPY", "PY2", "PY3"}

# Modules that give code another way in: by the name of the program itself, or as text that they run.
HIDING_MODULES = set("importlib builtins __main__ program timeit code codeop runpy bdb pdb cProfile profile trace doctest _typeshed".split())

# Those of them that many a module has imported for itself, and hands on: `from inspect import builtins`.
HANDED_ON = {"builtins", "importlib"}

# Installed for the tests, and without types: mypy says so, and zuban lets them be anything.
UNTYPED_MODULES = {"yaml", "sympy", "mpmath"}


def audit_all(files):
    """The findings in each file, given with the name of its entry point."""
    return [audit(path, entry_point) for path, entry_point in files]


def audit(path, entry_point):
    """Lists `[line, column, code, message]`, in order."""
    with open(path, encoding="utf-8", newline="") as file:
        tree = ast.parse(file.read())
    system = names_of_sys(tree)
    errors = [error for node in ast.walk(tree) for error in hidden(node, system)]
    if entry_point and not is_plain(tree, entry_point.split(".")):
        errors.append([1, 1, "real-entry-point", f"`{entry_point}` is not defined by a plain `def`"])
    return sorted(errors)


def is_plain(tree, path):
    exported = any(isinstance(node, ast.Global) and path[0] in node.names for node in ast.walk(tree))
    return defines(tree.body, path) and not exported


def names_of_sys(tree):
    imports = [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return {alias.asname or alias.name for alias in imports if alias.name == "sys"}


def hidden(node, system):
    """What this node alone hides; `system` are the names that `sys` has in this program."""
    match node:
        case ast.Name(id=name, ctx=ast.Load()):
            pass
        case ast.Import(names=names):
            for alias in names:
                yield from imported(node, alias.name)
            return
        case ast.Attribute(value=ast.Name(id=name), attr="modules") if name in system:
            yield [node.lineno, node.col_offset + 1, "real-dynamic-code", "`sys.modules` is used"]
            return
        case ast.ImportFrom(module="sys", names=names) if any(alias.name == "modules" for alias in names):
            yield [node.lineno, node.col_offset + 1, "real-dynamic-code", "`sys.modules` is imported"]
            return
        case ast.ImportFrom(module=module, names=names):
            handed_on = [alias.name for alias in names if alias.name in HANDED_ON]
            yield from imported(node, handed_on[0] if handed_on else module or "")
            return
        case ast.Attribute(attr=name) if name not in NAMES_ONLY:
            pass
        case ast.Constant(value=str() as name) if name[:2] in ("__", "f_"):
            pass  # For `getattr`.
        case ast.alias(name=name, asname=str()):
            pass
        case (ast.If() | ast.While() | ast.IfExp()) if never(node.test):
            yield [node.test.lineno, node.test.col_offset + 1, "real-guarded-code", "the condition is never true"]
            return
        case _:
            return
    if name in HIDING:
        yield [node.lineno, node.col_offset + 1, HIDING[name], f"`{name}` is used"]


def imported(node, name):
    package = name.split(".")[0]
    if package in HIDING_MODULES:
        yield [node.lineno, node.col_offset + 1, "real-dynamic-code", f"`{name}` is imported"]
    elif package in UNTYPED_MODULES:
        yield [node.lineno, node.col_offset + 1, "import-untyped", f"`{name}` has no types"]


def never(test):
    match test:
        case ast.Constant(value=value):
            return not value
        case ast.UnaryOp(op=ast.Not(), operand=ast.Constant(value=value)):
            return bool(value)
    return False


def defines(body, path):
    """Whether the dotted name is a `def`, in a class for each part before, and is bound to nothing else from then on."""
    found, rest = None, []
    for place, statement in enumerate(body):
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                if name == path[0]:
                    found, rest = statement, body[place + 1 :]
    if any(binds(statement, path[0]) for statement in rest):
        return False
    if len(path) > 1:
        return isinstance(found, ast.ClassDef) and defines(found.body, path[1:])
    return isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef))


def binds(node, wanted):
    """Whether this binds a name in the scope that it stands in, be it by a loop, an import or a pattern."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name == wanted  # What is inside has a scope of its own.
        case ast.Lambda():
            return False
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return name == wanted
        case ast.alias(name=name, asname=other):
            return name == "*" or (other or name.split(".")[0]) == wanted
        case ast.MatchAs(name=name) | ast.MatchStar(name=name) | ast.MatchMapping(rest=name) | ast.ExceptHandler(name=name):
            if name == wanted:
                return True
    return any(binds(child, wanted) for child in ast.iter_child_nodes(node))
