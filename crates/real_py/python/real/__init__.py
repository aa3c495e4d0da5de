"""Rewards for programs: a taint analyzer, a type checker and tests judge the same bytes.

>>> import real
>>> task = real.tasks("starter", split="train", limit=1)[0]
>>> score = real.score_batch([{"task": task, "completion": "```python\\n...\\n```"}])[0]
>>> score["reward"], score["infra_error"]

A score has the same keys whatever happens. Where the judges fail, `reward` is None and `infra_error` says why: leave such an item out of
training. Calls may come from many threads, and after a fork; what is asked for at the same time is judged together.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from . import _real

__all__ = ["Item", "Score", "scan", "score_batch", "tasks"]

_lock = threading.Lock()
_scorers: dict[str, _real.Scorer] = {}
_inherited: list[dict[str, _real.Scorer]] = []


class _Required(TypedDict):
    task: Mapping[str, Any] | str
    completion: str


class Item(_Required, total=False):
    """A completion to judge. `task` is a task as `tasks` gives it, or its JSON."""

    sample: int


class Score(TypedDict):
    """One completion, judged."""

    task_id: str
    sample: int
    reward: float | None
    quality: float | None
    function: float | None
    passed: bool
    parsed: bool
    findings: list[dict[str, Any]]
    type_errors: list[dict[str, Any]]
    tests: dict[str, Any]
    flags: list[str]
    infra_error: str | None
    ms: dict[str, float]


def scan(code: str, *, min_confidence: float = 0.0, entry_point: str | None = None) -> dict[str, Any]:
    """Weaknesses in a program: `{"findings": [...], "parsed": bool, "threat_model": str}`.

    `entry_point` is the function (or `Class.method`) that outsiders call.
    """
    return json.loads(_real.scan(_text(code), min_confidence, entry_point))


def tasks(
    benchmark: str, *, data: str | None = None, split: str = "train", limit: int | None = None
) -> list[dict[str, Any]]:
    """The tasks of `starter`, `safesql`, `seccodeplt` or `apps`; the last three are read from the folder `data`."""
    lines = _real.tasks(benchmark, data, split, 2**32 if limit is None else limit)
    return [json.loads(line) for line in lines.split("\n") if line]


def score_batch(
    items: Iterable[Item], *, config: Mapping[str, Any] | None = None, deadline: float = 600.0
) -> list[Score]:
    """A score for each item, in order.

    `config` has the fields of the reward's configuration that are not to be the default, such as `{"alpha": 0.1}`. What is not judged after
    `deadline` seconds is an outage.
    """
    return json.loads(score_batch_json(items, config=config, deadline=deadline))


def score_batch_json(
    items: Iterable[Item], *, config: Mapping[str, Any] | None = None, deadline: float = 600.0
) -> str:
    """The same as a JSON array, each score in the bytes that `real score` writes."""
    rows = [(_json(item["task"]), item.get("sample", 0), _text(item["completion"])) for item in items]
    return _scorer(json.dumps(dict(config or {}), sort_keys=True)).score(rows, deadline)


def _scorer(config: str) -> _real.Scorer:
    with _lock:
        scorer = _scorers.get(config)
        if scorer is None:
            scorer = _scorers[config] = _real.Scorer(config)
        return scorer


def _after_fork() -> None:
    """The parent's judges are not ours, and its lock may have been taken."""
    global _lock, _scorers
    _inherited.append(_scorers)
    _lock, _scorers = threading.Lock(), {}


os.register_at_fork(after_in_child=_after_fork)


def _json(task: Mapping[str, Any] | str) -> str:
    return task if isinstance(task, str) else json.dumps(task)


def _text(text: str) -> str:
    """Half of a surrogate pair, which a tokenizer may cut off, is no text."""
    return text.encode("utf-8", "replace").decode("utf-8")
