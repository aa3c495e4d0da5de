"""One measurement of PyTorch on the work of `crates/real_lm/examples/bench_one.rs`, as a line of JSON.

    python reference/bench_torch.py train|decode|decode-one smollm2-135m|qwen2.5-0.5b REPEATS f32|bf16

Needs torch and transformers. The model is the library's own with its scaled-dot-product attention; bf16 trains under autocast with f32
weights and decodes with bf16 weights. The optimiser is torch's fused AdamW.
"""

import json
import resource
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

SEQUENCES, LENGTH, PROMPT, NEW_TOKENS = 4, 256, 16, 64


def build(name):
    if name == "smollm2-135m":
        config = LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                             num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=2048,
                             tie_word_embeddings=True)
        return LlamaForCausalLM(config)
    config = Qwen2Config(vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
                         num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=2048,
                         rope_theta=1e6, tie_word_embeddings=True)
    return Qwen2ForCausalLM(config)


def train(model, steps, bf16):
    ids = torch.randint(model.config.vocab_size, (SEQUENCES, LENGTH + 1))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01, fused=True)

    def step():
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(ids[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    step()
    return measure(steps * SEQUENCES * LENGTH, lambda: [step() for _ in range(steps)])


def decode(model, batch, repeats, bf16):
    model = (model.bfloat16() if bf16 else model).eval()
    prompts = torch.randint(model.config.vocab_size, (batch, PROMPT))

    @torch.inference_mode()
    def run(new_tokens):
        # The library's cache without its `generate`, whose bookkeeping a bare loop does not need.
        output = model(prompts, use_cache=True, logits_to_keep=1)
        for _ in range(new_tokens - 1):
            token = output.logits[:, -1].argmax(-1, keepdim=True)
            output = model(token, past_key_values=output.past_key_values, use_cache=True)

    run(2)
    return measure(repeats * batch * NEW_TOKENS, lambda: [run(NEW_TOKENS) for _ in range(repeats)])


def measure(tokens, work):
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return {"tokens": tokens, "cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}


def main():
    work, name, repeats, dtype = sys.argv[1:]
    torch.manual_seed(0)
    model, bf16 = build(name), dtype == "bf16"
    if work == "train":
        result = train(model, int(repeats), bf16)
    else:
        result = decode(model, 16 if work == "decode" else 1, int(repeats), bf16)
    result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(result))


if __name__ == "__main__":
    main()
