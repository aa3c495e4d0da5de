"""verl (0.7 and later): `reward.custom_reward_function.path=…/real/integrations/verl.py`.

The column `reward_model.ground_truth` holds the task's JSON. verl calls for one sample at a time, from many threads; the calls
that are under way together are judged together. Every sample has the same keys, as verl takes them from the first one.

verl has no way to leave a sample out. An outage is `on_outage` (0.0) beside `infra_error` 1.0: watch the mean of that column, it should be 0.
Settings go through `+reward.custom_reward_function.reward_kwargs.alpha=0.1`, and so does any other field of the reward's configuration.
"""

from __future__ import annotations

from typing import Any

from real.integrations._common import judge, numbers


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    *,
    on_outage: float = 0.0,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **config: Any,
) -> dict[str, float]:
    """The reward of one response, as `score`, and what it is made of."""
    score = judge([ground_truth], [solution_str], config)[0]
    reward = on_outage if score["reward"] is None else score["reward"]
    return {"score": reward, **numbers(score)}
