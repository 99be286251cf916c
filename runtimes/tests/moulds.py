"""Adapters for tests: random, and strong enough to be heard in an answer."""

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


def mould(
    model: Path, folder: Path, *, seed: int, rank: int = 4, modules: Sequence[str] = ("o_proj",)
) -> Path:
    """Write an adapter for a model on disk."""
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(modules))
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
    for name, tensor in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(tensor, std=0.3)
    adapted.save_pretrained(str(folder))
    return folder
