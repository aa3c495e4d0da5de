"""verifiers (0.4, `verifiers.v1`) and prime-rl: a taskset of our benchmarks; `vf-eval` finds it in a package that exports `RealTaskset`.

The parts of the reward are kept apart, so that their weights can be set in the environment's configuration. An outage raises, which verifiers
records as an error of the rollout: it has no reward then.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import verifiers.v1 as vf

import real
from real.integrations._common import judge, numbers


class RealData(vf.TaskData):
    """A task; `real_task` is its JSON."""

    real_task: str


class RealConfig(vf.TasksetConfig):
    """Which tasks."""

    benchmark: str = "starter"
    data: str | None = None
    split: str = "train"
    limit: int | None = None


class RealTask(vf.Task[RealData]):
    """Is judged by what the model said last."""

    async def _score(self, trace: vf.Trace) -> real.Score:
        text = trace.last_message.content or ""
        # What was judged once is remembered: the parts ask for the same score.
        score = (await asyncio.to_thread(judge, [self.data.real_task], [text]))[0]
        if score["infra_error"] is not None:
            raise RuntimeError(score["infra_error"])
        return score

    @vf.reward(weight=0.5)
    async def functionality(self, trace: vf.Trace) -> float:
        return numbers(await self._score(trace))["function"]

    @vf.reward(weight=0.5)
    async def quality(self, trace: vf.Trace) -> float:
        return numbers(await self._score(trace))["quality"]

    @vf.metric
    async def both(self, trace: vf.Trace) -> float:
        score = numbers(await self._score(trace))
        return score["passed"] * float(score["quality"] >= 1.0)


class RealTaskset(vf.Taskset[RealTask, RealConfig]):
    """The tasks of a benchmark."""

    def load(self) -> Iterator[RealTask]:
        c = self.config
        for task in real.tasks(c.benchmark, data=c.data, split=c.split, limit=c.limit):
            prompt = "\n\n".join(message["content"] for message in task["messages"])
            yield RealTask(RealData(id=task["id"], prompt=prompt, real_task=json.dumps(task)), c.task)
