"""Loads an adaptation that `real_lm` saved with the PEFT library, and compares it with the merged checkpoint.

    python reference/verify_lora.py CHECKPOINT BASE

CHECKPOINT is a checkpoint of a run with a [lora] section, BASE the model that the run started from, both in Hugging Face layout. Needs torch,
transformers and peft.
"""

import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


@torch.inference_mode()
def main():
    checkpoint, base = Path(sys.argv[1]), sys.argv[2]
    merged = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    ids = torch.randint(plain.config.vocab_size, (2, 32), generator=torch.Generator().manual_seed(0))
    before = plain(ids).logits
    adapted = PeftModel.from_pretrained(plain, checkpoint / "adapter").eval()
    difference = (adapted(ids).logits - merged(ids).logits).abs().max().item()
    moved = (before - merged(ids).logits).abs().max().item()
    print(f"largest difference between adapter and merged checkpoint: {difference:.2e}; between base and checkpoint: {moved:.2e}")
    sys.exit(difference > 1e-3 or moved < 1e-6)


if __name__ == "__main__":
    main()
