"""Takes assertions apart: what is evaluated beside the program, and the value that it must have, which never goes there."""

import ast


def split(assertions):
    return [claim(text) for text in assertions]


def claim(text):
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        body = []
    if len(body) == 1 and isinstance(body[0], ast.Assert):
        return condition(body[0].test)
    # Several statements, or a call that raises when it fails. `exec` gives None, unless something is raised.
    return f"exec({text!r})", None


def condition(test):
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], (ast.Eq, ast.Is)):
        sides = [test.left, test.comparators[0]]
        for tested, literal in (sides, sides[::-1]):
            try:
                return ast.unparse(tested), ast.literal_eval(literal)
            except (ValueError, TypeError, RecursionError):
                pass
    # `not` gives a true bool, whatever the program has made of the name `bool`.
    return f"not not ({ast.unparse(test)})", True
