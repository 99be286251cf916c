import hashlib
import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, FalconConfig, FalconForCausalLM

from runtimes import tiny, tiny_chats
from runtimes.tuning.formats import Format, sniff

FILES = {
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_two_builds_are_the_same_to_the_byte(tiny_model: Path, tmp_path: Path) -> None:
    assert tiny.main([str(tmp_path / "made" / "here")]) == 0
    assert digests(tmp_path / "made" / "here") == digests(tiny_model)


def test_it_is_small_readable_by_all_and_says_that_it_knows_nothing(tiny_model: Path) -> None:
    assert {path.name for path in tiny_model.iterdir()} == FILES
    assert sum(path.stat().st_size for path in tiny_model.iterdir()) < 1_700_000
    assert all(path.stat().st_mode & 0o004 for path in tiny_model.iterdir())
    assert "not** a trained model" in (tiny_model / "README.md").read_text()


def test_two_datasets_are_the_same_to_the_byte(tmp_path: Path) -> None:
    for name in ("one", "other"):
        assert tiny_chats.main([str(tmp_path / name)]) == 0
    assert sniff(tmp_path / "one") is Format.PARQUET
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_dataset_in_a_missing_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        tiny_chats.main([str(tmp_path / "no" / "rows.parquet")])
    assert "cannot write" in capsys.readouterr().err


def test_phi3_loads_natively_with_a_head_size_that_vllm_accepts(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, trust_remote_code=False)
    assert type(model).__module__ == "transformers.models.phi3.modeling_phi3"
    assert model.num_parameters() == tiny.PARAMETERS
    assert model.config.hidden_size // model.config.num_attention_heads == 64
    assert "auto_map" not in json.loads((tiny_model / "config.json").read_text())


def test_falcon_loads_natively(tmp_path: Path) -> None:
    config = FalconConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        multi_query=True,
        parallel_attn=True,
        bias=False,
        new_decoder_architecture=False,
    )
    FalconForCausalLM(config).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=False)
    assert type(model).__module__ == "transformers.models.falcon.modeling_falcon"


def test_the_chat_template_is_that_of_phi3(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|system|>\nBe brief.<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stopped:
        tiny.main([str(tmp_path / "file" / "model")])
    assert stopped.value.code == 2
    assert f"cannot make {tmp_path}/file/model" in capsys.readouterr().err
