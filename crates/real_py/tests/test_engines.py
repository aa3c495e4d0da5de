"""The adapters inside of the engines that they are for. On demand: each test is skipped, by name, where its engine is not installed.

    cargo xtask python --python path/to/a/virtual/environment/bin/python
"""

import asyncio
import importlib
import json
import sys
import tempfile
import types
import unittest

from support import BROKEN, RIGHT, UNTYPED, own_task


def need(module):
    """The module, or a skip that says what is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        print(f"skipped: {module} cannot be imported: {error}", file=sys.stderr)
        raise unittest.SkipTest(f"{module}: {error}") from error


def toy_tokenizer():
    """A byte-level tokenizer without merges: nothing is downloaded."""
    tokenizers, transformers = need("tokenizers"), need("transformers")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<|pad|>", "<|im_end|>", *alphabet])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>")


class Engines(unittest.TestCase):
    def test_trl_takes_a_step_of_grpo(self):
        need("torch"), need("trl"), need("datasets")
        import torch
        from datasets import Dataset
        from transformers import Qwen2Config, Qwen2ForCausalLM
        from trl import GRPOConfig, GRPOTrainer

        from real.integrations.trl import real_reward

        tokenizer = toy_tokenizer()
        torch.manual_seed(1)
        config = Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, pad_token_id=0, eos_token_id=1, bos_token_id=None, tie_word_embeddings=True,
        )  # fmt: skip
        model = Qwen2ForCausalLM(config)
        rows = Dataset.from_list([{"prompt": "Write add(a, b).\n", "task": json.dumps(own_task())}] * 2)
        with tempfile.TemporaryDirectory() as folder:
            arguments = GRPOConfig(
                output_dir=folder, use_cpu=True, bf16=False, max_steps=1, per_device_train_batch_size=2, num_generations=2,
                max_completion_length=16, logging_steps=1, report_to=[], save_strategy="no",
            )  # fmt: skip
            trainer = GRPOTrainer(
                model, reward_funcs=[real_reward], args=arguments, train_dataset=rows, processing_class=tokenizer
            )
            trainer.train()
        log = trainer.state.log_history[0]
        # A random model writes no program.
        self.assertEqual(log["rewards/real_reward/mean"], -1.0)
        self.assertEqual((log["real/infra_error"], log["real/parsed"]), (0.0, 0.0))

    def test_verl_scores_a_sample(self):
        need("torch"), need("verl")
        naive = need("verl.experimental.reward_loop.reward_manager.naive")
        import numpy
        import torch
        from verl import DataProto

        from real.integrations.verl import compute_score

        tokenizer = toy_tokenizer()

        async def run(answer, task):
            response = tokenizer(answer, return_tensors="pt")["input_ids"]
            length = response.shape[1]
            padded = torch.cat([response, torch.zeros((1, 5), dtype=torch.long)], dim=1)
            mask = torch.cat([torch.ones((1, length)), torch.zeros((1, 5))], dim=1).long()
            column = lambda value: numpy.array([value], dtype=object)  # noqa: E731
            data = DataProto.from_dict(
                tensors={"responses": padded, "attention_mask": mask},
                non_tensors={
                    "data_source": column("own"),
                    "reward_model": column({"style": "rule", "ground_truth": json.dumps(task)}),
                    "extra_info": column({}),
                },
            )
            manager = naive.NaiveRewardManager(types.SimpleNamespace(), tokenizer, compute_score)
            return await manager.run_single(data)

        results = [asyncio.run(run(*case)) for case in [(RIGHT, own_task()), (UNTYPED, own_task()), (RIGHT, BROKEN)]]
        self.assertEqual([result["reward_score"] for result in results], [1.0, 0.5, 0.0])
        self.assertEqual([result["reward_extra_info"]["infra_error"] for result in results], [0.0, 0.0, 1.0])

    def test_openrlhf_calls_the_function(self):
        need("torch")
        agent = need("openrlhf.utils.agent")
        from real.integrations import openrlhf

        executor = agent.SingleTurnAgentExecutor(openrlhf.__file__)
        prompts, labels = ["<|im_start|>q"] * 2, [json.dumps(own_task()), json.dumps(BROKEN)]
        queries = [prompt + RIGHT + "<|im_end|>" for prompt in prompts]
        good, bad = asyncio.run(executor._fetch_rewards_via_func(queries, prompts, labels))
        self.assertEqual((good["rewards"].tolist(), good["scores"].tolist()), ([1.0], [1.0]))
        self.assertEqual((bad["rewards"].tolist(), bad["extra_logs"]["infra_error"].tolist()), ([0.0], [1.0]))

    def test_skyrl_plays_an_episode(self):
        skyrl_gym = need("skyrl_gym")
        from skyrl_gym.envs.registration import register

        register(id="real", entry_point="real.integrations.skyrl:RealEnv")
        extras = {"reward_spec": {"method": "rule", "ground_truth": json.dumps(own_task())}}
        environment = skyrl_gym.make("real", env_config={}, extras=extras)
        prompt = [{"role": "user", "content": "Write add(a, b)."}]
        self.assertEqual(environment.init(prompt)[0], prompt)
        step = environment.step(UNTYPED + "<|im_end|>")
        self.assertEqual((step["reward"], step["done"], step["observations"]), (0.5, True, []))
        self.assertEqual(step["metadata"]["infra_error"], 0.0)
        environment.close()

    def test_verifiers_scores_a_trace(self):
        need("verifiers.v1")
        import real
        from real.integrations import verifiers

        class Trace:
            def __init__(self, text):
                self.last_message = types.SimpleNamespace(content=text)
                self.rewards, self.metrics = {}, {}

            def record_reward(self, name, value, weight):
                self.rewards[name] = (value, weight)

            def record_metric(self, name, value):
                self.metrics[name] = value

        taskset = verifiers.RealTaskset(verifiers.RealConfig(limit=2))
        tasks = list(taskset)
        self.assertEqual([task.data.id for task in tasks], [task["id"] for task in real.tasks("starter", limit=2)])
        reference = json.loads(tasks[0].data.real_task)["reference"]
        trace = Trace(f"```python\n{reference}\n```")
        asyncio.run(tasks[0].score(trace))
        self.assertEqual(trace.rewards, {"functionality": (1.0, 0.5), "quality": (1.0, 0.5)})
        self.assertEqual(trace.metrics, {"both": 1.0})
        broken = verifiers.RealTask(verifiers.RealData(prompt="q", real_task=json.dumps(BROKEN)))
        with self.assertRaisesRegex(Exception, "a_prelude_of_ours_that_fails"):
            asyncio.run(broken.score(Trace(RIGHT)))

    def test_nemo_rl_steps(self):
        need("ray"), need("torch"), need("nemo_rl.environments.interfaces")
        from real.integrations.nemo_rl import RealEnvironment

        environment = RealEnvironment.__ray_metadata__.modified_class()
        logs = [[{"role": "user", "content": "q"}, {"role": "assistant", "content": text}] for text in (RIGHT, UNTYPED)]
        result = environment.step(logs, [{"task": json.dumps(own_task())}] * 2)
        self.assertEqual(result.rewards.tolist(), [1.0, 0.5])


if __name__ == "__main__":
    unittest.main()
