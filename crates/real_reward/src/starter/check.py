"""Runs every solution of the tasks on standard input (a JSON line each), and prints for each solution what failed.

One output line a solution: {"task": id, "style": style, "kind": kind, "tests": [messages], "attacks": [messages]}.
"""

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
import warnings

# Imported once here, these cost nothing in the processes of the candidates.
import hashlib  # noqa: F401
import hmac  # noqa: F401
import html  # noqa: F401
import pathlib  # noqa: F401
import pickle  # noqa: F401
import shlex  # noqa: F401
import sqlite3  # noqa: F401
import subprocess  # noqa: F401
import urllib.request  # noqa: F401


def value(data):
    """The Python value of the notation of `real_sandbox::Value`."""
    if isinstance(data, list):
        return [value(item) for item in data]
    if not isinstance(data, dict):
        return data
    match list(data.items()):
        case [("$tuple", items)]:
            return tuple(value(items))
        case [("$bytes", text)]:
            return base64.b64decode(text)
        case items:
            assert not any(key.startswith("$") for key, _ in items), items
            return {key: value(item) for key, item in items}


def failure(task, code, case):
    """Why the case fails, or None. Runs in a process of its own."""
    scope = {"__name__": "candidate"}
    output = io.StringIO()
    result, raised = None, None
    with contextlib.redirect_stdout(output):
        exec(task.get("prelude", ""), scope)
        try:
            exec(compile(code, "candidate.py", "exec"), scope)
            result = scope[task["entry_point"]](*value(case["args"]))
        except Exception as error:
            raised = error
    match list(case["expect"].items()):
        case [("returns", expected)]:
            expected = value(expected)
            same = raised is None and type(result) is type(expected) and result == expected
            return None if same else f"{case['args']}: {result!r} or {raised!r}, not {expected!r}"
        case [("raises", name)]:
            names = [base.__name__ for base in type(raised).__mro__]
            return None if name in names else f"{case['args']}: {result!r} or {raised!r}, not {name}"
        case [("withholds", canary)]:
            told = canary in f"{result!r}{result}{output.getvalue()}"
            return f"{case['args']}: tells {canary}" if told else None


def in_child(function):
    """What the function returns, in a fork and an empty folder."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            answer = json.dumps(function())
        except BaseException as error:
            answer = json.dumps(f"check.py itself failed: {error!r}")
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as stream:
        answer = json.loads(stream.read())
    os.waitpid(child, 0)
    return answer


def build(files):
    """The content of the files by name."""
    content = {}
    for file in files:
        if text := file.get("text"):
            content[text["name"]] = text["text"].encode()
            continue
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            exec(file["built"]["script"], {})
            with open(file["built"]["name"], "rb") as stream:
                content[file["built"]["name"]] = stream.read()
            os.chdir("/")
    return content


def failures(task, files, code, cases):
    def run(case):
        with tempfile.TemporaryDirectory() as folder:
            def work():
                os.mkdir(f"{folder}/work")
                os.chdir(f"{folder}/work")
                for name, content in files.items():
                    with open(name, "wb") as stream:
                        stream.write(content)
                return failure(task, code, case)

            return in_child(work)

    return [message for case in cases if (message := run(case))]


def main():
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        task = json.loads(line)
        files = build(task.get("files", []))
        for solution in task["solutions"]:
            ast.parse(solution["code"])
            verdict = {"task": task["id"], "style": solution["style"], "kind": solution["kind"]}
            for part in ("tests", "attacks"):
                verdict[part] = failures(task, files, solution["code"], task[part]["cases"])
            print(json.dumps(verdict))


main()
