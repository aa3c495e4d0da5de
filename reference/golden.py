"""Writes the golden files that hold `real_lm` to PyTorch: tiny decoders, their logits, losses, gradients and updates.

    python reference/golden.py crates/real_lm/tests/golden

Needs torch and safetensors. Everything is computed in float64, so that a difference is the error of the engine under
test alone, and stored as float32. One file a configuration; its metadata has the fields of `config.json`. Names:

    ids, offsets                    a packed batch: sequences behind each other
    param.NAME                      the parameters, under their names in a Hugging Face checkpoint
    logits                          [T, V]
    sft.loss, sft.NAME              mean cross-entropy of all next tokens, and its gradients
    ppo.rows, ppo.targets, ppo.old_logprobs, ppo.advantages, ppo.logprobs, ppo.entropies, ppo.loss, ppo.NAME
                                    a clipped objective with an entropy bonus on some rows, at a temperature
    adamw.NAME, adamw.losses, adamw.norms
                                    after ten clipped AdamW steps on the first loss; losses and norms before each
"""

import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

TEMPERATURE = 0.7
CLIP_RATIO = 0.2
ENTROPY_COEF = 0.01
STEPS, LEARNING_RATE, WEIGHT_DECAY, MAX_NORM = 10, 3e-3, 0.01, 0.5

SHAPE = dict(vocab_size=37, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, head_dim=4, max_position_embeddings=128)
CONFIGS = {
    "llama": dict(SHAPE, model_type="llama", rms_norm_eps=1e-5, rope_theta=1e4, tie_word_embeddings=True),
    "llama_untied": dict(SHAPE, model_type="llama", rms_norm_eps=1e-5, rope_theta=1e5, tie_word_embeddings=False,
                         num_key_value_heads=4, num_hidden_layers=1),
    "qwen2": dict(SHAPE, model_type="qwen2", rms_norm_eps=1e-6, rope_theta=1e6, tie_word_embeddings=False),
    "qwen2_tied": dict(SHAPE, model_type="qwen2", rms_norm_eps=1e-6, rope_theta=1e6, tie_word_embeddings=True,
                       num_key_value_heads=1, num_hidden_layers=1),
}


def random_parameters(config):
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    attention = config["num_attention_heads"] * config["head_dim"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    parameters = {}

    def add(name, *shape, mean=0.0, scale=0.25):
        # Rounded to float32 first: what is stored must be what was computed with.
        value = (mean + scale * torch.randn(*shape, dtype=torch.float64)).float().double()
        parameters[name] = value.requires_grad_()

    add("model.embed_tokens.weight", config["vocab_size"], hidden, scale=0.5)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        add(prefix + "input_layernorm.weight", hidden, mean=1.0, scale=0.1)
        for name, rows in (("q", attention), ("k", kv), ("v", kv)):
            add(f"{prefix}self_attn.{name}_proj.weight", rows, hidden)
            if config["model_type"] == "qwen2":
                add(f"{prefix}self_attn.{name}_proj.bias", rows)
        add(prefix + "self_attn.o_proj.weight", hidden, attention)
        add(prefix + "post_attention_layernorm.weight", hidden, mean=1.0, scale=0.1)
        add(prefix + "mlp.gate_proj.weight", inner, hidden)
        add(prefix + "mlp.up_proj.weight", inner, hidden)
        add(prefix + "mlp.down_proj.weight", hidden, inner)
    add("model.norm.weight", hidden, mean=1.0, scale=0.1)
    if not config["tie_word_embeddings"]:
        add("lm_head.weight", config["vocab_size"], hidden)
    return parameters


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rotate(x, theta):
    """Rotary embedding of [heads, tokens, D] in the rotate-half form."""
    half = x.shape[-1] // 2
    frequencies = theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.outer(torch.arange(x.shape[1], dtype=torch.float64), frequencies)
    first, second = x[..., :half], x[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def decode(config, p, ids):
    """Logits of one sequence: [tokens, V]."""
    eps, theta, dim = config["rms_norm_eps"], config["rope_theta"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    mask = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
    x = p["model.embed_tokens.weight"][ids]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."

        def project(name, y, count):
            name = f"{prefix}self_attn.{name}_proj"
            return F.linear(y, p[name + ".weight"], p.get(name + ".bias")).view(len(ids), count, dim).transpose(0, 1)

        y = rms_norm(x, p[prefix + "input_layernorm.weight"], eps)
        q, k = rotate(project("q", y, heads), theta), rotate(project("k", y, kv_heads), theta)
        v = project("v", y, kv_heads)
        k, v = (t.repeat_interleave(heads // kv_heads, 0) for t in (k, v))
        scores = (q @ k.transpose(1, 2) / dim**0.5).masked_fill(~mask, -torch.inf)
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(len(ids), heads * dim)
        x = x + F.linear(mixed, p[prefix + "self_attn.o_proj.weight"])
        y = rms_norm(x, p[prefix + "post_attention_layernorm.weight"], eps)
        gate = F.silu(F.linear(y, p[prefix + "mlp.gate_proj.weight"]))
        up = F.linear(y, p[prefix + "mlp.up_proj.weight"])
        x = x + F.linear(gate * up, p[prefix + "mlp.down_proj.weight"])
    x = rms_norm(x, p["model.norm.weight"], eps)
    return F.linear(x, p.get("lm_head.weight", p["model.embed_tokens.weight"]))


def next_tokens(sequences):
    """Rows of the packed batch that have a next token, and these tokens."""
    rows, targets, start = [], [], 0
    for ids in sequences:
        rows += range(start, start + len(ids) - 1)
        targets += ids[1:].tolist()
        start += len(ids)
    return torch.tensor(rows), torch.tensor(targets)


def gradients(parameters, loss):
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values()))))


def golden(config):
    parameters = random_parameters(config)
    sequences = [torch.randint(config["vocab_size"], (n,)) for n in (5, 1, 70, 19)]
    rows, targets = next_tokens(sequences)

    def logits():
        return torch.cat([decode(config, parameters, ids) for ids in sequences])

    def sft_loss():
        return F.cross_entropy(logits()[rows], targets)

    out = {
        "ids": torch.cat(sequences).int(),
        "offsets": torch.tensor([0] + [len(s) for s in sequences]).cumsum(0).int(),
        "logits": logits(),
        "sft.loss": sft_loss(),
    }
    out |= {f"param.{name}": value.clone() for name, value in parameters.items()}
    out |= {f"sft.{name}": value for name, value in gradients(parameters, sft_loss()).items()}
    out |= ppo(parameters, logits(), rows, targets)
    out |= adamw(parameters, sft_loss)
    return {name: value.detach().contiguous() if value.dtype == torch.int32 else value.detach().float().contiguous()
            for name, value in out.items()}


def ppo(parameters, logits, rows, targets):
    chosen = torch.arange(len(rows)) % 3 != 0
    rows, targets = rows[chosen], targets[chosen]
    log_p = F.log_softmax(logits[rows] / TEMPERATURE, -1)
    logprobs = log_p[torch.arange(len(rows)), targets]
    entropies = -(log_p.exp() * log_p).sum(-1)
    old = (logprobs + 0.3 * torch.randn_like(logprobs)).detach().float().double()
    advantages = torch.randn_like(logprobs).detach().float().double()
    ratio = (logprobs - old).exp()
    clipped = ratio.clamp(1 - CLIP_RATIO, 1 + CLIP_RATIO)
    loss = (-torch.minimum(ratio * advantages, clipped * advantages) - ENTROPY_COEF * entropies).mean()
    out = {"rows": rows.int(), "targets": targets.int(), "old_logprobs": old, "advantages": advantages,
           "logprobs": logprobs, "entropies": entropies, "loss": loss} | gradients(parameters, loss)
    return {f"ppo.{name}": value for name, value in out.items()}


def adamw(parameters, loss_of):
    values = list(parameters.values())
    optimiser = torch.optim.AdamW(values, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    losses, norms = [], []
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss = loss_of()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(values, MAX_NORM))
        losses.append(loss)
        optimiser.step()
    out = {f"adamw.{name}": value for name, value in parameters.items()}
    return out | {"adamw.losses": torch.stack(losses), "adamw.norms": torch.stack(norms)}


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, config) in enumerate(CONFIGS.items()):
        torch.manual_seed(seed)
        save_file(golden(config), folder / f"{name}.safetensors", {"config": json.dumps(config, sort_keys=True)})


if __name__ == "__main__":
    main()
