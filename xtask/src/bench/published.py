"""Drives the published graders on completions of SecCodePLT+: CHECKOUT DATA COMPLETIONS.jsonl COUNT.

Only the module of that grader is imported, without the trainer around it and what that needs."""

import contextlib
import importlib
import io
import json
import os
import pathlib
import resource
import sys
import time
import types

import pyarrow.parquet

checkout, data, completions, count = map(pathlib.Path, sys.argv[1:])
for name in ("verl", "verl.utils", "verl.utils.reward_score"):
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [str(checkout.joinpath(*name.split(".")))]
grader = importlib.import_module("verl.utils.reward_score.seccodeplt")

rows = {}
for split in ("train", "test"):
    for row in pyarrow.parquet.read_table(data / "seccodeplt" / f"{split}.parquet").to_pylist():
        rows[row["id"]] = row
lines = completions.read_text().splitlines()[: int(str(count))]
# The grader calls "python" by name.
os.environ["PATH"] = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"


def processor_time():
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


start, before = time.perf_counter(), processor_time()
for line in map(json.loads, lines):
    with contextlib.redirect_stdout(io.StringIO()):
        grader.compute_score(line["completion"], rows[line["task_id"]], ut_ratio=0.5, mypy_ratio=0.0, scpd_ratio=0.5)
wall, cost = time.perf_counter() - start, processor_time() - before
print(f"\nthe published grader, {len(lines)} completions: {cost:.2f} s of processor time, {wall:.2f} s in all")
print(f"for 512: {cost / len(lines) * 512:.0f} s of processor time")
