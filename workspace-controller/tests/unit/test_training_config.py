"""A training configuration: what is refused, by section and key, and where results go."""

import pytest

from workspace_controller.manifests.training_config import UnusableConfig, output_folder

LORA = "training_config: {}"
QLORA = "training_config: {QuantizationConfig: {load_in_4bit: true}}"


def trains(section: str) -> str:
    return f"training_config: {{TrainingArguments: {section}}}"


@pytest.mark.parametrize(
    ("text", "method", "folder"),
    [
        (LORA, "lora", "/mnt/output"),
        (QLORA, "qlora", "/mnt/output"),
        ("training_config: {QuantizationConfig: {load_in_8bit: true}}", "qlora", "/mnt/output"),
        ("training_config: {QuantizationConfig: }", "lora", "/mnt/output"),
        (trains("{output_dir: /mnt/results}"), "lora", "/mnt/results"),
        (trains("{output_dir: results/a}"), "lora", "/mnt/results/a"),
        (trains("{output_dir: /mnt//x/../results/}"), "lora", "/mnt/results"),
        (trains("{output_dir: ''}"), "lora", "/mnt/output"),
        (trains("{output_dir: /mnt/database}"), "lora", "/mnt/database"),
    ],
)
def test_results_go_where_the_configuration_says(text: str, method: str, folder: str) -> None:
    assert output_folder(text, method) == folder


@pytest.mark.parametrize(
    ("text", "method", "words"),
    [
        (None, "lora", "it has no key training_config.yaml"),
        ("a: [", "lora", "is no YAML"),
        ("[1, 2]", "lora", "training_config.yaml must hold a map"),
        ("training_config:", "lora", "must hold a map under its top key training_config"),
        (
            "training_config: {Lora: {}}",
            "lora",
            "training_config.Lora is no section. Did you mean LoraConfig? Allowed",
        ),
        (
            "training_config: {LoraConfig: 8}",
            "lora",
            "training_config.LoraConfig is 8; it must be a map",
        ),
        (
            "training_config: {QuantizationConfig: {load_in_4bit: 'yes'}}",
            "qlora",
            "QuantizationConfig.load_in_4bit is 'yes'; allowed: true or false",
        ),
        (
            "training_config: {QuantizationConfig: {load_in_4bit: true, load_in_8bit: true}}",
            "qlora",
            "both to true",
        ),
        (QLORA, "lora", "load_in_4bit is true, which is for tuning.method qlora"),
        (LORA, "qlora", "sets neither of load_in_4bit and load_in_8bit to true"),
        (trains("{output_dir: 5}"), "lora", "output_dir is 5; it must be a path below /mnt"),
        (trains("{output_dir: /mnt}"), "lora", "does not lie below /mnt"),
        (trains("{output_dir: ../etc}"), "lora", "does not lie below /mnt"),
        (trains("{output_dir: /mnt/data}"), "lora", "/mnt/data, /mnt/secrets are in use"),
        (trains("{output_dir: /mnt/secrets/x}"), "lora", "are in use"),
        ("[" * 10_000, "lora", "is nested more than 20 levels deep"),
        ("#" * 40_000, "lora", "has 40000 bytes; at most 32768 are read"),
    ],
)
def test_what_cannot_be_used_is_named(text: str | None, method: str, words: str) -> None:
    with pytest.raises(UnusableConfig, match=r".") as refusal:
        output_folder(text, method)
    assert words in str(refusal.value)
