#!/usr/bin/env python3
"""Checks that the transformers library reads a saved checkpoint as the model it was made from.

usage: verify_checkpoint.py SAVED_DIR ORIGINAL.gguf GOLDEN_DIR {qwen|smollm2}

SAVED_DIR is what Checkpoint::save wrote after Checkpoint::load(ORIGINAL.gguf). Compared are every weight with the library's
own reading of the GGUF file, the ids of the texts of GOLDEN_DIR/text.json, and the rendered conversations; then the model
writes a few tokens. Needs torch 2.15, transformers 5.23, gguf 0.19 and accelerate.
"""
import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    saved, original, golden, name = sys.argv[1:]
    original = pathlib.Path(original)
    expected = json.loads((pathlib.Path(golden) / "text.json").read_text())

    tokenizer = AutoTokenizer.from_pretrained(saved)
    print("tokenizer", type(tokenizer).__name__, "eos", tokenizer.eos_token, "pad", tokenizer.pad_token)
    for text, ids in zip(expected["texts"], expected["ids"][name]):
        assert tokenizer.encode(text, add_special_tokens=False) == ids, text
    for conversation, (whole, prompt) in zip(expected["conversations"], expected["rendered"][name]):
        messages = [{"role": role, "content": content} for role, content in conversation]
        assert tokenizer.apply_chat_template(messages, tokenize=False) == whole
        assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == prompt
    print("ids and templates agree")

    model = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32)
    print("eos", model.generation_config.eos_token_id, "rope", model.config.rope_parameters)
    reference = AutoModelForCausalLM.from_pretrained(original.parent, gguf_file=original.name, dtype=torch.float32)
    theirs = reference.state_dict()
    for key, ours in model.state_dict().items():
        difference = (ours - theirs[key]).abs().max().item()
        if difference > 1e-6:
            print(f"{key}: differs by up to {difference}, of {theirs[key].abs().max().item()}")
    del reference, theirs
    print("weights compared")

    messages = [{"role": "user", "content": "Write a Python function that adds two numbers. Code only."}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**prompt, max_new_tokens=40, do_sample=False)
    print(repr(tokenizer.decode(out[0, prompt["input_ids"].shape[1] :])))


main()
