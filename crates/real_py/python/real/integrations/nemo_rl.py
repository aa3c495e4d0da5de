"""NeMo-RL: `register_env("real", "real.integrations.nemo_rl.RealEnvironment")`, and in the YAML `env: real: {}`, `data.env_name: real`.

The metadata of a sample is `{"task": TASK}`, TASK being the task's JSON. Rewards are a tensor of numbers: an outage is 0.0, and `infra_error` in the
metadata and in the metrics says so.
"""

from __future__ import annotations

from typing import Any

import ray
import torch
from nemo_rl.environments.interfaces import EnvironmentInterface, EnvironmentReturn

from real.integrations._common import judge, numbers


@ray.remote
class RealEnvironment(EnvironmentInterface):
    """Judges the last message of each conversation."""

    def __init__(self, cfg: dict[str, Any] | None = None) -> None:
        self.config = (cfg or {}).get("reward")

    def step(self, message_log_batch: list[list[dict[str, Any]]], metadata: list[dict[str, Any]]) -> EnvironmentReturn:
        texts = [log[-1]["content"] for log in message_log_batch]
        scores = judge([entry["task"] for entry in metadata], texts, self.config)
        return EnvironmentReturn(
            observations=[{"role": "environment", "content": ""} for _ in scores],
            metadata=[{**entry, **numbers(score)} for entry, score in zip(metadata, scores, strict=True)],
            next_stop_strings=[None] * len(scores),
            rewards=torch.tensor([score["reward"] or 0.0 for score in scores]),
            terminateds=torch.ones(len(scores), dtype=torch.bool),
            answers=None,
        )

    def global_post_process_and_metrics(self, batch: Any) -> tuple[Any, dict[str, float]]:
        infos = batch.get("extra_env_info") or []
        outages = [info["infra_error"] for info in infos if info and "infra_error" in info]
        metrics = {"reward/mean": float(batch["total_reward"].float().mean())}
        if outages:
            metrics["reward/infra_errors"] = sum(outages) / len(outages)
        return batch, metrics
