"""TRL (GRPO, RLOO): `GRPOTrainer(..., reward_funcs=[real_reward])`; the data set has a column `task` with each task's JSON.

`real_reward` is the hybrid reward. `function_reward` and `quality_reward` are its parts, for `reward_weights=[0.5, 0.5]` and for
`multi_objective_aggregation="normalize_then_sum"`; what was judged for the one is remembered for the other. An outage is None, which TRL leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from real.integrations._common import judge, numbers, text_of


def real_reward(
    prompts: list[Any],
    completions: list[Any],
    task: list[str],
    log_extra: Callable[[str, list[Any]], None] | None = None,
    log_metric: Callable[[str, float], None] | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    **columns: Any,
) -> list[float | None]:
    """The hybrid reward of each completion. `config` is for a reward function of your own that calls this one, with another α for instance."""
    scores = judge(task, map(text_of, completions), config)
    rows = [numbers(score) for score in scores]
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        if log_extra is not None:
            log_extra(name, values)
        if log_metric is not None:
            log_metric(f"real/{name}", sum(values) / len(values))
    return [score["reward"] for score in scores]


def function_reward(prompts: list[Any], completions: list[Any], task: list[str], **columns: Any) -> list[float | None]:
    """The share of passed tests."""
    return [score["function"] for score in judge(task, map(text_of, completions))]


def quality_reward(prompts: list[Any], completions: list[Any], task: list[str], **columns: Any) -> list[float | None]:
    """1 where the analyzer and the type checker are content."""
    return [score["quality"] for score in judge(task, map(text_of, completions))]
