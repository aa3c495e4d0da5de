#!/usr/bin/env python3
"""Writes small checkpoints for the tests of file formats.

usage: checkpoint_golden.py GOLDEN_DIR

Needs torch 2.15, transformers 5.23, gguf 0.19 and tiny_tokenizer.json of text_golden.py in GOLDEN_DIR. Written are

  blocks.gguf      for each block format a tensor of arbitrary blocks, and as NAME.expected what the gguf package makes of it
  tiny-qwen2/      a tied Qwen2 model as transformers saves it, in bfloat16
  tiny-qwen2.gguf  the same with its matrix stored twice, as llama.cpp's converter lays it out
  tiny-llama/      an untied Llama model in float16, in shards
  tiny-llama.gguf  the same, with the rows of q and k permuted

All weights are small multiples of 1/1024, so that every format above holds them exactly.
"""
import json
import pathlib
import shutil
import sys

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

# Where the half-precision scales lie in a block.
SCALES = {
    Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0],
    Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208],
}
ROWS, COLUMNS = 2, 512
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def blocks(path):
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "none")
    for kind, scales in SCALES.items():
        block_len, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        data = rng.integers(0, 256, (ROWS * COLUMNS // block_len, block_bytes), dtype=np.uint8)
        for at in scales:
            data[:, at : at + 2] = rng.normal(0, 0.1, (len(data), 1)).astype(np.float16).view(np.uint8)
        data = data.reshape(ROWS, -1)
        writer.add_tensor(kind.name, data, raw_dtype=kind)
        writer.add_tensor(f"{kind.name}.expected", gguf.dequantize(data, kind).astype(np.float32))
    values = rng.normal(0, 1, (ROWS, COLUMNS)).astype(np.float32)
    writer.add_tensor("F16", values.astype(np.float16))
    writer.add_tensor("F16.expected", values.astype(np.float16).astype(np.float32))
    half = gguf.quantize(values, Q.BF16)
    writer.add_tensor("BF16", half, raw_dtype=Q.BF16)
    writer.add_tensor("BF16.expected", gguf.dequantize(half, Q.BF16))
    finish(writer)


def tiny_model(kind):
    shape = dict(
        vocab_size=400, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, eos_token_id=2, bos_token_id=None, pad_token_id=0,
    )
    torch.manual_seed(0)
    if kind == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**shape, rms_norm_eps=1e-6, rope_theta=1e6, tie_word_embeddings=True))
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape, rms_norm_eps=1e-5, rope_theta=1e4, tie_word_embeddings=False))
    for parameter in model.parameters():
        parameter.data = torch.randint(-120, 121, parameter.shape) / 1024
    return model


def save_folder(folder, model, tokenizer_file):
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer_file), eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(folder)
    model.generation_config.eos_token_id = [2, 0]
    if model.config.model_type == "qwen2":
        model.to(torch.bfloat16).save_pretrained(folder)
    else:
        model.to(torch.float16).save_pretrained(folder, max_shard_size="60KB")


def save_gguf(path, model, tokenizer_file):
    config = model.config
    arch, heads, kv_heads = config.model_type, config.num_attention_heads, config.num_key_value_heads
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(1e6 if arch == "qwen2" else 1e4)
    tokenizer = json.loads(tokenizer_file.read_text())
    special = {token["id"] for token in tokenizer["added_tokens"]}
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if i in special else 1 for i in range(len(tokens))])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_chat_template(TEMPLATE)

    def permuted(weights, count):
        return weights.reshape(count, 2, -1, weights.shape[1]).swapaxes(1, 2).reshape(weights.shape)

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch.upper()], config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        weights = tensor.float().numpy()
        if arch == "llama" and name.endswith("q_proj.weight"):
            weights = permuted(weights, heads)
        if arch == "llama" and name.endswith("k_proj.weight"):
            weights = permuted(weights, kv_heads)
        if weights.ndim > 1:
            weights = weights.astype(np.float16)
        if name == "model.embed_tokens.weight" and config.tie_word_embeddings:
            writer.add_tensor("token_embd.weight", gguf.quantize(weights.astype(np.float32), Q.Q5_0), raw_dtype=Q.Q5_0)
        else:
            writer.add_tensor(names.get_name(name, (".weight", ".bias")), weights)
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    golden = pathlib.Path(sys.argv[1])
    tokenizer_file = golden / "tiny_tokenizer.json"
    blocks(golden / "blocks.gguf")
    for kind in ["qwen2", "llama"]:
        model = tiny_model(kind)
        save_gguf(golden / f"tiny-{kind}.gguf", model, tokenizer_file)
        save_folder(golden / f"tiny-{kind}", model, tokenizer_file)


main()
