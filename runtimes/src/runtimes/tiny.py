"""Build a tiny phi-3 model with random weights, for tests and the sandbox.

The same call always writes the same weights and the same tokenizer, and every file set says that the
model knows nothing: its words are noise, its file formats are real.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

PARAMETERS = 394_368
SEED = 20_240_423
VOCABULARY = 386
CONTEXT = 512

# Phi-3's own special tokens, in its order; the first is also the padding.
END_OF_TEXT = "<|endoftext|>"
END_OF_TURN = "<|end|>"
SPECIAL_TOKENS = (
    "<unk>",
    "<s>",
    END_OF_TEXT,
    "<|assistant|>",
    "<|system|>",
    END_OF_TURN,
    "<|user|>",
)
ROLES = {
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": END_OF_TEXT,
    "pad_token": END_OF_TEXT,
}
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
TRAINING_TEXT = (
    "A cluster hands out machines, and a machine with a graphics card hands out answers.",
    "The person who asks for a model wants to know what is happening, and for how long.",
    "When the node is ready the model is loaded, and when the model is loaded it can be asked.",
    "Please tell me a short story about a ship that carried other ships across the sea.",
    "What is the weather like? It is warm and bright, with some wind from the north-west.",
    "How many workers are there in the house today, and which of them should we thank first?",
)
CARD = """---
library_name: transformers
pipeline_tag: text-generation
---

# Tiny random phi-3

This is **not** a trained model. It has the architecture, file formats and chat template of phi-3, {parameters:,}
parameters, and random weights (seed {seed}). Its answers are noise. It exists so that tests and the sandbox
can download, load, serve and tune something real in a second, without a GPU.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the model into the folder named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m runtimes.tiny",
        description="Write a tiny phi-3 model with random weights (1.6 MB) into a folder. "
        "Its answers are noise; its files, chat template and architecture are real.",
    )
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="made if it is missing")
    out_dir: Path = parser.parse_args(arguments).out_dir
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"cannot make {out_dir}: {error.strerror}")
    build(out_dir)
    sys.stdout.write(f"Wrote a tiny random phi-3 ({PARAMETERS:,} parameters) to {out_dir}\n")
    return 0


def build(out_dir: Path) -> None:
    """Write config, weights, tokenizer and model card into `out_dir`, which must exist."""
    transformers_logging.disable_progress_bar()
    tokenizer = _tokenizer()
    model = _model(tokenizer)
    tokenizer.save_pretrained(out_dir)
    model.save_pretrained(out_dir)
    # safetensors writes for its owner alone; the folder is made to be served and mounted
    (out_dir / "model.safetensors").chmod(0o644)
    (out_dir / "README.md").write_text(CARD.format(parameters=PARAMETERS, seed=SEED))


def _tokenizer() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING_TEXT, trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY, "the training text is too short"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **ROLES,
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def _model(tokenizer: Any) -> Any:
    ends = tokenizer.convert_tokens_to_ids([END_OF_TEXT, END_OF_TURN])
    config = Phi3Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,  # head size 64, the smallest that vLLM's CPU attention accepts
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        original_max_position_embeddings=CONTEXT,
        sliding_window=None,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = Phi3ForCausalLM(config)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=_unprintable(tokenizer, keep=ends),
        begin_suppress_tokens=ends,  # so that no answer is empty
    )
    assert model.num_parameters() == PARAMETERS, model.num_parameters()
    return model


def _unprintable(tokenizer: Any, keep: Sequence[int]) -> list[int]:
    """Half of a byte-level vocabulary is no text by itself; random weights would pick it often."""
    texts = {token: tokenizer.decode([token]) for token in range(VOCABULARY)}
    return [
        token
        for token, text in texts.items()
        if token not in keep and not (text.isascii() and text.isprintable())
    ]


if __name__ == "__main__":
    sys.exit(main())
