"""One judge, three doors: the command line, HTTP and Python give the same bytes."""

import json
import os
import re
import signal
import subprocess
import unittest
import urllib.request

import real
from support import BINARY, RIGHT, UNTYPED, WRONG, block, command_line, own_task, starter_lines

# The only part of a score that differs from run to run.
TIMES = re.compile(rb'"ms":\{[^}]*\}')


class Server:
    """`real serve` on a port of its own."""

    def __enter__(self):
        self.process = subprocess.Popen([BINARY, "serve", "--addr", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if line.startswith("listening on "):
                self.url = line.split()[-1]
                return self
        raise RuntimeError("the server did not start")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.status = self.process.wait(timeout=90)
        self.process.stderr.close()

    def post(self, path, body):
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=300) as response:
            return response.read()


class Doors(unittest.TestCase):
    maxDiff = None

    def test_three_doors_give_the_same_bytes(self):
        tasks, completions = starter_lines()
        odd = ["", "no code", block("def f(:"), block("import os\nos._exit(0)"), "```python\nx = '\u00e9\u2713'\n```"]
        first = json.loads(tasks.splitlines()[0])["id"]
        completions += [{"task_id": first, "sample": 100 + n, "completion": text} for n, text in enumerate(odd)]

        lines = [TIMES.sub(b"", line) for line in command_line(tasks, completions)]
        self.assertEqual(len(lines), len(completions))

        by_id = {task["id"]: task for task in map(json.loads, tasks.splitlines())}
        items = [{"task": by_id[row["task_id"]], "sample": row["sample"], "completion": row["completion"]} for row in completions]
        here = real.score_batch_json(items).encode()
        self.assertEqual(TIMES.sub(b"", here), b"[" + b",".join(lines) + b"]")

        with Server() as server:
            there = server.post("/v1/score", {"tasks": list(by_id.values()), "completions": completions})
        self.assertEqual(TIMES.sub(b"", there), b'{"scores":[' + b",".join(lines) + b"]}")
        self.assertEqual(server.status, 0)

    def test_scan_finds_what_the_command_line_finds(self):
        code = "import os\nname = input()\nos.system('ls ' + name)\n"
        printed = subprocess.run([BINARY, "scan", "--format", "jsonl", "-"], input=code, capture_output=True, text=True)
        finding = json.loads(printed.stdout)
        del finding["path"]
        threat_model = finding.pop("threat_model")
        self.assertEqual(real.scan(code), {"findings": [finding], "parsed": True, "threat_model": threat_model})
        self.assertFalse(real.scan("def f(:")["parsed"])

    def test_engines_are_answered_with_the_real_judges(self):
        label = json.dumps(own_task())
        with Server() as server:
            post = lambda path, body: json.loads(server.post(path, body))  # noqa: E731
            query = ["<|im_start|>user\nq<|im_end|>" + text + "<|im_end|>" for text in (RIGHT, WRONG, UNTYPED)]
            answer = post("/openrlhf", {"query": query, "prompts": ["<|im_start|>user\nq<|im_end|>"] * 3, "labels": [label] * 3})
            self.assertEqual(answer["rewards"], [1.0, 0.5, 0.5])
            self.assertEqual(answer["extra_logs"]["infra_error"], [0.0, 0.0, 0.0])
            self.assertEqual(post("/slime", {"prompt": "q", "response": RIGHT, "label": label}), 1.0)

            program = "def add(a, b):\n    return a + b\n"
            tests = [
                "assert add(1, 2) == 3",
                "assert 5 == add(2, 3)",
                "assert add(1, 2) == 4",
                "assert add(0.5, 0.5) == 1",
                "assert not add(0, 0)",
                "assert add([1], [2]) == [1, 2] and True",
                "x = add(1, 1)\nassert x == 2",
                "x = add(1, 1)\nassert x == 3",
                "assert add(",
            ]
            answer = post("/test_program", {"program": program, "tests": tests, "max_execution_time": 5})
            self.assertEqual(answer["results"], [1, 1, 0, 1, 1, 1, 1, 0, 0])
            for cheat in ["import os\nos._exit(0)", "class add:\n    def __new__(cls, *a): return cls()\n    def __init__(self, *a): pass\n    def __eq__(self, o): return True", "raise SystemExit"]:
                answer = post("/test_program", {"program": cheat, "tests": tests[:2], "max_execution_time": 5})
                self.assertEqual(answer["results"], [0, 0], cheat)
            stdio = [{"input": "2\n", "output": "4"}, {"input": "3\n", "output": "7"}]
            answer = post("/test_program_stdio", {"program": "print(2 * int(input('n? ')))", "tests": stdio, "max_execution_time": 5})
            self.assertEqual(answer["results"], [1, 0])

            run = lambda code, **more: post("/run_code", {"language": "python", "code": code, "run_timeout": 5, **more})  # noqa: E731
            answer = run("import sys\nprint(input())\nopen('out.txt', 'w').write('x')", stdin="hello", fetch_files=["out.txt"])
            self.assertEqual((answer["status"], answer["run_result"]["stdout"]), ("Success", "hello\n"))
            self.assertEqual(answer["files"], {"out.txt": "eA=="})
            answer = run("raise ValueError('why')")
            self.assertEqual((answer["status"], answer["run_result"]["return_code"]), ("Failed", 1))
            self.assertIn("ValueError: why", answer["run_result"]["stderr"])
            answer = run("while True: pass", run_timeout=0.5)
            self.assertEqual(answer["run_result"]["status"], "TimeLimitExceeded")

    def test_a_server_is_not_open_to_the_network_by_accident(self):
        result = subprocess.run([BINARY, "serve", "--addr", "0.0.0.0:0"], capture_output=True, text=True, env={**os.environ, "REAL_TOKEN": ""})
        self.assertEqual(result.returncode, 2)
        environment = {name: value for name, value in os.environ.items() if name != "REAL_TOKEN"}
        result = subprocess.run([BINARY, "serve", "--addr", "0.0.0.0:0"], capture_output=True, text=True, env=environment)
        self.assertEqual(result.returncode, 2)
        self.assertIn("a token is needed", result.stderr)


if __name__ == "__main__":
    unittest.main()
