"""Tasks and completions for the tests."""

import json
import os
import pathlib
import subprocess
import tempfile

BINARY = os.environ["REAL_BINARY"]


def own_task(identifier="add"):
    cases = [{"args": [1, 2], "expect": {"returns": 3}}, {"args": [-1, 1], "expect": {"returns": 0}}]
    return {
        "id": identifier,
        "benchmark": "own",
        "messages": [{"role": "user", "content": "Write add(a, b)."}],
        "entry_point": "add",
        "tests": {"kind": "call", "cases": cases},
    }


def block(code):
    return f"```python\n{code}\n```"


RIGHT = block("def add(a: int, b: int) -> int:\n    return a + b")
WRONG = block("def add(a: int, b: int) -> int:\n    return a * b")
UNTYPED = block("def add(a, b):\n    return a + b")
# The prelude is ours, and fails before the program gets control: an outage.
BROKEN = {**own_task("broken"), "prelude": "import a_prelude_of_ours_that_fails"}


def starter_lines():
    """A few tasks and every solution of each, as files of the command line."""
    tasks = subprocess.run(
        [BINARY, "tasks", "--benchmark", "starter", "--limit", "3"], capture_output=True, check=True, text=True
    ).stdout
    completions = []
    for task in map(json.loads, tasks.splitlines()):
        for sample, solution in enumerate(task["solutions"]):
            completions.append({"task_id": task["id"], "sample": sample, "completion": block(solution["code"])})
    return tasks, completions


def command_line(tasks, completions):
    """What `real score` prints for them, a line each."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "tasks.jsonl").write_text(tasks)
        (folder / "completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in completions))
        command = [BINARY, "score", "--tasks", folder / "tasks.jsonl", "--completions", folder / "completions.jsonl"]
        return subprocess.run(command, capture_output=True, check=True).stdout.splitlines()
