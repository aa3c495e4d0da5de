"""OpenRLHF: `--reward.remote_url …/real/integrations/openrlhf.py --data.label_key task`, the label being the task's JSON.

A query is the whole text, prompt and response, with special tokens. An error, or None, would leave OpenRLHF with a batch that is judged by
its first sample; so an outage is a reward of 0 beside `infra_error` 1 in the logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from real.integrations._common import judge, numbers


def reward_func(
    queries: list[str],
    prompts: list[str],
    labels: list[str],
    config: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    """Rewards, the same in [0, 1] for dynamic filtering, and what they are made of.

    For a reward that is not the default, name a file with `reward_func = functools.partial(reward_func, config={"alpha": 0.1})` instead.
    """
    import torch

    texts = [query.removeprefix(prompt) for query, prompt in zip(queries, prompts, strict=True)]
    scores = judge(labels, texts, config)
    rewards = torch.tensor([0.0 if score["reward"] is None else score["reward"] for score in scores])
    rows = [numbers(score) for score in scores]
    logs = {name: torch.tensor([row[name] for row in rows]) for name in (rows[0] if rows else ())}
    return {"rewards": rewards, "scores": rewards.clamp(0.0, 1.0), "extra_logs": logs}
