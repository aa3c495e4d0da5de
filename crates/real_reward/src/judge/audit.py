"""Finds what silences or deceives a type checker. Trusted: it parses programs and never runs them."""

import ast

# Reading one of these names hides code from the checker, or makes code that the checker never sees.
HIDING = {
    "no_type_check": "real-suppressed",
    "no_type_check_decorator": "real-suppressed",
    "TYPE_CHECKING": "real-guarded-code",
    "MYPY": "real-guarded-code",
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
    "cast": "real-cast",
}

# As attributes of anything these are common and harmless: `re.compile`, `table.eval`.
NAMES_ONLY = {"exec", "eval", "compile", "globals", "locals", "vars", "setattr", "MYPY"}


def audit_all(files):
    """The findings in each file, given with the name of its entry point."""
    return [audit(path, entry_point) for path, entry_point in files]


def audit(path, entry_point):
    """Lists `[line, column, code, message]`, in order."""
    with open(path, encoding="utf-8", newline="") as file:
        tree = ast.parse(file.read())
    errors = [error for node in ast.walk(tree) for error in hidden(node)]
    if entry_point and not defines(tree.body, entry_point.split(".")):
        errors.append([1, 1, "real-entry-point", f"`{entry_point}` is not defined by a plain `def`"])
    return sorted(errors)


def hidden(node):
    match node:
        case ast.Name(id=name, ctx=ast.Load()):
            pass
        case ast.Attribute(attr=name) if name not in NAMES_ONLY:
            pass
        case ast.alias(name=("importlib" | "builtins") as name):
            yield [node.lineno, node.col_offset + 1, "real-dynamic-code", f"`{name}` is imported"]
            return
        case ast.alias(name=name, asname=str()):
            pass
        case (ast.If() | ast.While() | ast.IfExp()) if never(node.test):
            yield [node.test.lineno, node.test.col_offset + 1, "real-guarded-code", "the condition is never true"]
            return
        case _:
            return
    if name in HIDING:
        yield [node.lineno, node.col_offset + 1, HIDING[name], f"`{name}` is used"]


def never(test):
    match test:
        case ast.Constant(value=value):
            return not value
        case ast.UnaryOp(op=ast.Not(), operand=ast.Constant(value=value)):
            return bool(value)
    return False


def defines(body, path):
    """Whether the last definition of the dotted name is a `def`, in a class for each part before."""
    found = None
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                if name == path[0]:
                    found = statement
            case ast.Assign(targets=targets):
                if any(isinstance(target, ast.Name) and target.id == path[0] for target in targets):
                    found = statement
    if len(path) > 1:
        return isinstance(found, ast.ClassDef) and defines(found.body, path[1:])
    return isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef))
