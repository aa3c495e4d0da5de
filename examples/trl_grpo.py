"""GRPO with TRL: `accelerate launch examples/trl_grpo.py --benchmark safesql --size 0.5B`, after `prepare.py --engine trl`.

TRL has no PPO any more. `BATCH` is the number of completions of a step, as in the paper, eight for each task.
"""

import argparse

from datasets import load_dataset
from trl import GRPOConfig, GRPOTrainer

from real.integrations.trl import real_reward

BATCH = {"safesql": 256, "seccodeplt": 512, "apps": 256, "starter": 256}
STEPS = {"safesql": 600, "seccodeplt": 140, "apps": 800, "starter": 100}


def alpha(benchmark, size):
    if benchmark != "safesql":
        return 0.5
    return 0.3 if size == "3B" else 0.1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmark", choices=BATCH, default="starter")
    parser.add_argument("--size", choices=["0.5B", "3B", "7B"], default="0.5B")
    parser.add_argument("--model")
    parser.add_argument("--gpus", type=int, default=8)
    arguments = parser.parse_args()
    benchmark, size = arguments.benchmark, arguments.size

    def reward(prompts, completions, task, log_extra, log_metric, **columns):
        config = {"alpha": alpha(benchmark, size)}
        return real_reward(prompts, completions, task, log_extra, log_metric, config=config)

    files = {split: f"data/trl-{benchmark}-{split}.jsonl" for split in ("train", "test")}
    rows = load_dataset("json", data_files=files)
    config = GRPOConfig(
        output_dir=f"runs/trl-{benchmark}-{size}",
        max_steps=STEPS[benchmark],
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        beta=0.001,
        num_generations=8,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=BATCH[benchmark] // (8 * arguments.gpus),
        max_completion_length=1024,
        bf16=True,
        gradient_checkpointing=True,
        use_vllm=True,
        vllm_mode="colocate",
        logging_steps=1,
        save_steps=40,
    )
    model = arguments.model or f"Qwen/Qwen2.5-Coder-{size}-Instruct"
    GRPOTrainer(model, reward_funcs=[reward], args=config, train_dataset=rows["train"], eval_dataset=rows["test"]).train()


if __name__ == "__main__":
    main()
