"""Compares greedy generation of `real_lm` in f32 with that of the transformers library, token for token.

    python reference/greedy.py MODEL.gguf [TOKENS]

Needs torch, transformers and gguf. The weights of the GGUF file are written as a Hugging Face folder (`cargo run --release -p real_lm --example
convert`), which both then load; 20 prompts are completed with 100 tokens each by both (`--example complete`). Where the two differ, the
script shows by how much the library's own two best logits did: a difference of rounding errors is a tie, and is said to be one.
"""

import json
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = [
    "Write a Python function that adds two numbers.", "What is a hash map?", "def fibonacci(n):", "SELECT name FROM users WHERE",
    "Explain the difference between a list and a tuple.", "Once upon a time", "import os\n\ndef list_files(path):",
    "The capital of France is", "Write a haiku about the sea.", "for i in range(10):\n    print(",
    "How do I read a file line by line in Python?", "class Stack:\n    def __init__(self):", "Sort these numbers: 5, 3, 9, 1.",
    "Translate to German: good morning.", "What is SQL injection?", "def is_prime(n: int) -> bool:",
    "Name three programming languages.", "Write a unit test for a function that reverses a string.",
    "The quick brown fox", "1 + 1 = 2, 2 + 2 = 4, 4 + 4 =",
]


def main():
    source, tokens = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100
    with tempfile.TemporaryDirectory() as folder:
        example = ["cargo", "run", "--release", "--quiet", "-p", "real_lm", "--example"]
        subprocess.run([*example, "convert", source, folder], check=True)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        prompts = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
        lines = "".join(json.dumps(prompt) + "\n" for prompt in prompts)
        ours = subprocess.run([*example, "complete", folder, str(tokens)], input=lines, text=True, capture_output=True, check=True)
        ours = [json.loads(line) for line in ours.stdout.splitlines()]
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    different = sum(not same(model, prompt, ids) for prompt, ids in zip(prompts, ours, strict=True))
    print(f"{len(prompts) - different} of {len(prompts)} completions of {tokens} tokens are equal")
    sys.exit(different > 0)


@torch.inference_mode()
def same(model, prompt, ids):
    """Whether the library would have chosen every token of a completion."""
    logits = model(torch.tensor([prompt + ids[:-1]])).logits[0, len(prompt) - 1:]
    for position, (row, token) in enumerate(zip(logits, ids, strict=True)):
        best = row.topk(2)
        if best.indices[0] != token:
            gap = (best.values[0] - row[token]).item()
            print(f"prompt {prompt[:8]}… token {position}: {token}, the library has {best.indices[0].item()}; {gap:.1e} between them")
            return False
    return True


if __name__ == "__main__":
    main()
