"""The whole job: check, fetch, train, push.

Whatever can be refused is refused before the first GPU second is spent, and what was finished before is not
done again.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from runtimes.engines.processors import cpu_limit
from runtimes.failure import Exit, Failure, StartupFailure
from runtimes.oci import credentials, registry
from runtimes.oci.reference import Reference
from runtimes.serving.hardware import gpus
from runtimes.tuning import checkpoints, dataset, fetch, recipe, results
from runtimes.tuning.config import TrainingConfig
from runtimes.tuning.config import read as read_config
from runtimes.tuning.launch import Interrupted, Training
from runtimes.tuning.settings import Settings
from runtimes.tuning.status import Status
from runtimes.tuning.task import Task
from runtimes.weights import Plan, Source, Weights, find

HEARTBEAT_SECONDS = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Job:
    """What the settings and the config say together, checked."""

    settings: Settings
    config: TrainingConfig
    output: Path
    image: Reference | None

    @classmethod
    def read(cls, settings: Settings) -> "Job":
        """Read all that was written for us. Raises `Failure`."""
        config, warnings = read_config(settings.config_file, settings.method)
        for warning in warnings:
            log.warning("a key of the config has no effect", key=warning)
        output = recipe.output_dir(settings.output_dir, config)
        image = Reference.parse(settings.output_image) if settings.output_image else None
        if image is not None:
            if image.digest:
                raise Failure(Exit.SETTINGS, f"--output_image {image}: give a tag, not a digest")
            credentials.find(settings.docker_config, image)  # a secret that is no use
        return cls(settings, config, output, image)

    def identity(self, samples: dataset.Samples) -> str:
        """The same for two trainings whose result would be the same."""
        settings = self.settings
        parts = {
            "method": settings.method,
            "model": [settings.base_model_name, settings.pretrained_model_name_or_path],
            "revision": settings.revision,
            "config": self.config.digest(),
            "data": samples.digest(),
        }
        content = json.dumps(parts, sort_keys=True)
        return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def run(job: Job, status: Status, folder: Path) -> None:
    """Do the job, with temporary files in `folder`. Raises `Failure`, OSError and `Interrupted`."""
    samples = _samples(job, folder)
    identity = job.identity(samples)
    report = results.finished(job.output, identity)
    if report is None:
        _train(job, status, folder, samples)
        report = results.finished(job.output, identity)
        if report is None and status.board.asked_to_stop():
            raise Interrupted
        if report is None:
            raise Failure(Exit.UNEXPECTED, f"the training left no result in {job.output}")
        log.info("trained", loss=report["loss"]["last"], seconds=report["seconds"])
    else:
        log.info("already trained: the result is used as it is", output_dir=str(job.output))
    if job.image is not None:
        status.phase = "Pushing"
        _push(job, job.image, status, report)


def _samples(job: Job, folder: Path) -> dataset.Samples:
    settings, config = job.settings, job.config
    if settings.data_url:
        incoming = folder / "incoming"
        incoming.mkdir()
        limits = fetch.Limits(
            settings.max_data_bytes, allow_local_addresses=settings.allow_local_addresses
        )
        with _heartbeat("fetching", lambda: {"bytes": _bytes(incoming)}):
            files = fetch.fetch_all(settings.data_url, incoming, limits)
    else:
        files = dataset.find_files(settings.data_dir, config.DatasetConfig)
    text_field = config.TrainingArguments.dataset_text_field
    with _heartbeat("reading the dataset", dict):
        return dataset.prepare(files, config.DatasetConfig, folder / "samples.parquet", text_field)


def _train(job: Job, status: Status, folder: Path, samples: dataset.Samples) -> None:
    settings, config, identity = job.settings, job.config, job.identity(samples)
    try:
        results.begin(job.output)
        checkpoints.remove_unusable(job.output, identity)
    except OSError as error:
        raise Failure(
            Exit.SETTINGS, f"--output_dir {job.output} cannot be written: {error.strerror}"
        ) from error
    weights = _weights(settings)
    devices = 1 if config.TrainingArguments.use_cpu else len(gpus())
    processes = settings.processes or max(1, devices)
    task = Task(
        folder=str(folder),
        model_folder=str(weights.folder),
        model_commit=weights.commit,
        base_model_name=settings.base_model_name,
        method=settings.method,
        samples=str(samples.file),
        shape=samples.shape,
        dataset=samples.summary(),
        output_dir=str(job.output),
        identity=identity,
        config=config.model_dump(),
        config_digest=config.digest(),
        set_arguments=sorted(config.TrainingArguments.model_fields_set),
        checkpoint_seconds=settings.checkpoint_seconds,
        threads=settings.threads or max(1, cpu_limit() // processes),
        log_level=settings.log_level,
    )
    status.phase = "Training"
    with Training(task, status.board, processes) as training:
        training.wait()


def _weights(settings: Settings) -> Weights:
    plans: list[Plan] = []

    def announce(plan: Plan) -> None:
        log.info("downloading", model=plan.model, commit=plan.commit, bytes=plan.total)
        plans.append(plan)

    source = Source(
        pretrained_model_name_or_path=settings.pretrained_model_name_or_path,
        revision=settings.revision,
        allow_remote_files=settings.allow_remote_files,
        download_dir=settings.download_dir,
        hub_token_file=settings.hub_token_file,
    )
    try:
        with _heartbeat("downloading", lambda: _arrived(plans)):
            return find(source, announce)
    except StartupFailure as failure:
        if failure.code is Exit.SETTINGS:
            raise
        # another try may mend it, which the code for data would rule out
        raise Failure(Exit.UNEXPECTED, failure.message, "ModelUnavailable") from failure


def _push(job: Job, image: Reference, status: Status, report: dict[str, Any]) -> None:
    access = registry.Access(job.settings.docker_config, job.settings.insecure_registry)
    annotations = {
        "sh.kaito.model.name": job.settings.base_model_name,
        "kaito.adapter.rank": str(report["rank"]),
        "kaito.dataset.sha256": report["dataset"]["sha256"],
    }
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or 0)
    try:
        pushed = registry.push_files(
            results.files(job.output), image, access, annotations=annotations, epoch=epoch
        )
    except Failure as failure:
        kept = f"; while the adapter is in {job.output}, another try only pushes it"
        raise Failure(Exit.REGISTRY, f"{failure.message}{kept}", "PushFailed") from failure
    status.image = str(image)
    status.digest = pushed.partition("@")[2]
    log.info("pushed", image=status.image, digest=status.digest)


@contextlib.contextmanager
def _heartbeat(event: str, figures: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Log `event` every few seconds while the block runs."""
    done = threading.Event()
    started = time.monotonic()

    def beat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            log.info(event, seconds=round(time.monotonic() - started), **figures())

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _arrived(plans: list[Plan]) -> dict[str, int]:
    return {"bytes": plans[-1].arrived(), "of": plans[-1].total} if plans else {}


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for everything that need not outlive the job."""
    return tempfile.TemporaryDirectory(prefix="tuning-", ignore_cleanup_errors=True)
