from pathlib import Path

import pytest

from runtimes.failure import Exit, StartupFailure
from runtimes.serving.bring_up import chat_template
from runtimes.serving.settings import Settings
from runtimes.serving.sources import read


def test_flags_win_over_the_file_which_wins_over_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("max_queue: 2\nrequest_timeout: 2.5\n")
    variables = {"RUNTIME_MAX_QUEUE": "3", "RUNTIME_REQUEST_TIMEOUT": "3", "RUNTIME_PORT": "3"}
    settings = read([f"--config_file={file}", "--max_queue=1"], variables)
    assert (settings.max_queue, settings.request_timeout, settings.port) == (1, 2.5, 3)


def test_the_pods_command_is_understood() -> None:
    command = [
        "--allow_remote_files",
        "--device_map=auto",
        "--download_dir=/workspace/weights",
        "--port=5000",
        "--pretrained_model_name_or_path=microsoft/Phi-3-mini-4k-instruct",
        "--revision=0123456789abcdef0123456789abcdef01234567",
        "--served_model_name=phi-3-mini-4k-instruct",
        "--torch_dtype=auto",
    ]
    settings = read(command, {})
    assert settings.allow_remote_files
    assert settings.model_name == "phi-3-mini-4k-instruct"
    assert settings.download_dir == Path("/workspace/weights")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--load_in_4bit"], True),
        (["--load_in_4bit=true"], True),
        (["--load_in_4bit", "true"], True),
        (["--load_in_4bit=false"], False),
        ([], False),
    ],
)
def test_switches_may_be_bare(given: list[str], expected: bool) -> None:
    assert read(given, {}).load_in_4bit is expected


def test_strengths_are_given_adapter_by_adapter(tmp_path: Path) -> None:
    flags = ["--adapter=verse=0.5", "--adapter=terse"]
    assert read(flags, {}).adapter == {"verse": 0.5, "terse": 1.0}
    assert read([], {"RUNTIME_ADAPTER": "verse=0.5,terse=1"}).adapter == {"verse": 0.5, "terse": 1}
    file = tmp_path / "settings.yaml"
    file.write_text("adapter: {verse: 0.25}")
    assert read([f"--config_file={file}"], {}).adapter == {"verse": 0.25}
    for wrong in ("=1", "verse=2", "verse=much", "verse=-1"):
        with pytest.raises(StartupFailure, match="--adapter"):
            read([f"--adapter={wrong}"], {})
    with pytest.raises(StartupFailure, match="twice"):
        read(["--adapter=a", "--adapter=a=1"], {})


def test_a_model_is_named_after_its_last_part() -> None:
    assert Settings(pretrained_model_name_or_path="org/model").model_name == "model"
    assert Settings().model_name == "weights"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--prot=5"], "unknown flag --prot: did you mean --port?"),
        (["--max-queue=5"], "did you mean --max_queue?"),
        (["--wholly_unheard_of"], "unknown flag --wholly_unheard_of; --help lists all flags"),
        (["--cache_dir=/x"], "unknown flag --cache_dir: use --download_dir"),
        (["stray"], "'stray' belongs to no flag"),
        (["--max_queue"], "--max_queue: expected one argument"),
        (["--port=99999"], "--port '99999': Input should be less than or equal to 65535"),
        (["--max_model_len=None"], "--max_model_len 'None'"),
        (["--torch_dtype=int8"], "--torch_dtype 'int8': Input should be 'auto'"),
        (["--pipeline=translation"], "--pipeline 'translation'"),
        (["--device_map=gpu"], "--device_map 'gpu'"),
        (["--trust_remote_code"], "code from a model's repository is never run"),
        (["--load_in_4bit", "--load_in_8bit"], "exclude each other"),
        (["--pretrained_model_name_or_path="], "--pretrained_model_name_or_path ''"),
        (["--config_file=/no/such/file"], "--config_file /no/such/file"),
        (["--request_timeout=nan"], "--request_timeout 'nan'"),
    ],
)
def test_mistakes_are_named_with_the_remedy(flags: list[str], text: str) -> None:
    with pytest.raises(StartupFailure) as failure:
        read(flags, {})
    assert failure.value.code == Exit.SETTINGS
    assert text in failure.value.message


def test_a_mistake_in_the_environment_is_named_there() -> None:
    with pytest.raises(StartupFailure, match=r"RUNTIME_PORT 'tcp://10\.0\.0\.1:80'"):
        read([], {"RUNTIME_PORT": "tcp://10.0.0.1:80"})


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("max_quue: 3", "unknown setting max_quue: did you mean max_queue?"),
        ("max_queue: many", "max_queue 'many'"),
        ("- max_queue", "expected name: value lines"),
        ("a: [", "--config_file"),
        ("\x00", "--config_file"),
    ],
)
def test_mistakes_in_the_file_are_named_there(tmp_path: Path, content: str, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(content)
    with pytest.raises(StartupFailure) as failure:
        read([f"--config_file={file}"], {})
    assert str(file) in failure.value.message
    assert text in failure.value.message


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("# nothing yet\n")
    assert read([f"--config_file={file}"], {}).max_queue == 64


def test_help_explains_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read(["--help"], {})
    text = capsys.readouterr().out
    assert all(f"--{name}" in text for name in Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())


def test_a_chat_template_is_a_file_or_inline(tmp_path: Path) -> None:
    file = tmp_path / "template.jinja"
    file.write_text("{{ messages }}")
    assert chat_template(str(file)) == "{{ messages }}"
    assert chat_template("{{ messages }}!") == "{{ messages }}!"
    assert chat_template("") == ""
    with pytest.raises(StartupFailure, match="--chat_template /no/such/file cannot be read"):
        chat_template("/no/such/file")
