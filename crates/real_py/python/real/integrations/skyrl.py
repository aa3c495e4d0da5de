"""SkyRL: `register(id="real", entry_point="real.integrations.skyrl:RealEnv")`.

A row of the data set is `{"prompt": …, "env_class": "real", "reward_spec": {"method": "rule", "ground_truth": TASK}}`, TASK being the task's JSON;
`reward_spec` may also have a `config` for the reward, such as `{"alpha": 0.1}`.
An episode is one answer. `reward` must be a number: an outage is 0.0 beside `infra_error` 1.0 in the metadata.
"""

from __future__ import annotations

from typing import Any

from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput

from real.integrations._common import judge, numbers


class RealEnv(BaseTextEnv):
    """One task, and one answer to it."""

    def __init__(self, env_config: Any = None, extras: dict[str, Any] | None = None) -> None:
        super().__init__()
        spec = (extras or {}).get("reward_spec") or {}
        if "ground_truth" not in spec:
            raise ValueError("reward_spec.ground_truth is missing: it holds the task's JSON")
        self.task: str = spec["ground_truth"]
        self.config: dict[str, Any] | None = spec.get("config")

    def step(self, action: str) -> BaseTextEnvStepOutput:
        """Judges the answer."""
        self.turns += 1
        score = judge([self.task], [action], self.config)[0]
        reward = 0.0 if score["reward"] is None else score["reward"]
        return BaseTextEnvStepOutput(observations=[], reward=reward, done=True, metadata=dict(numbers(score)))
