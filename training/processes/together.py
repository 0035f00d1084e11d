"""Starting the processes that train one model together, on this machine or on Spark's executors.

On this machine torch starts them, which needs no Spark; on executors pyspark's TorchDistributor does, in one barrier
stage. What a process raises on purpose is handed over and raised again by the caller. Of anything else only the place
is told, since its message may quote a company's text; it ends all processes.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, multiprocessing
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from ptec_udf import errors
from ptec_udf.errors import ConfigError, PtecError, TrainingError, UserError
from ptec_udf.log import logger
from training.config import TrainConfig
from training.processes.group import Group, ProcessLostError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Work = Callable[[Group], dict[str, Any]]

_OUTCOME = "outcome.json"
_GRACE_S = 5.0  # for the others to see that one is gone
_PATIENCE = timedelta(days=7)
_PR_SET_PDEATHSIG = 1  # of prctl(2)
_LOST_ANOTHER = 3  # exit code of a process that ends because another one has
_GO_ON = "give the same command again to go on after the last whole epoch"


def run_together(function: Callable[..., dict[str, Any]], config: TrainConfig, *arguments: Any) -> dict[str, Any]:
    """Call ``function(config, *arguments, group)`` in ``config.processes`` processes.

    Args:
        function: of a module, since the processes find it by its name.
        config: says how many processes and where.
        arguments: more of them.

    Returns:
        What the first process returns, JSON-ready.

    Raises:
        ConfigError: for executors without a Spark session.
        TrainingError: when a process ends before its work is done.
        PtecError: what the function raises.
    """
    if config.processes_on == "executors":
        config = _with_absolute_paths(config)
        outcome = _on_executors(partial(function, config, *arguments), config)
    else:
        outcome = _on_this_machine(partial(function, config, *arguments), config)
    if "error" in outcome:
        kind = getattr(errors, outcome["error"])
        raise kind(outcome["faults"]) if issubclass(kind, UserError) else kind(outcome["faults"][0])
    return outcome["result"]


def _on_this_machine(work: Work, config: TrainConfig) -> dict[str, Any]:
    """Start the processes by torch; they share this one's threads and meet in a file."""
    threads = max(1, torch.get_num_threads() // config.processes)
    with tempfile.TemporaryDirectory(prefix="ptec-") as folder:
        context = multiprocessing.start_processes(
            _local_process,
            (work, config, threads, folder, os.getpid()),
            nprocs=config.processes,
            join=False,
            daemon=True,
        )
        try:
            while not context.join(grace_period=_GRACE_S):
                pass
        except ProcessRaisedException as error:
            raise _ended(error.error_index, "could not start", config) from None
        except ProcessExitedException:
            raise _ended(*_cause([process.exitcode or 0 for process in context.processes]), config) from None
        finally:
            for process in context.processes:
                process.terminate()
                process.join()
        return json.loads((Path(folder) / _OUTCOME).read_text(encoding="utf-8"))


def _local_process(rank: int, work: Work, config: TrainConfig, threads: int, folder: str, parent: int) -> None:
    """Take part as one of this machine's processes; the first one leaves the outcome in the folder."""
    _end_with(parent)
    torch.set_num_threads(threads)
    meeting = f"file://{folder}/meeting"
    outcome = _take_part(work, config, rank=rank, local_rank=rank, meeting=meeting, shared=folder)
    if rank == 0:
        (Path(folder) / _OUTCOME).write_text(json.dumps(outcome), encoding="utf-8")


def _end_with(parent: int) -> None:
    """Let this process be killed when its parent ends, which holds the lock of the folder for all of them.

    Torch asks for SIGINT, which what a script starts in the background ignores.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that
        sys.exit(_LOST_ANOTHER)


def _cause(exit_codes: list[int]) -> tuple[int, str]:
    """Find the process that ended first and how, from the exit codes of all.

    The others lose it, or are terminated after the grace, and may well be noticed before it.
    """
    unlikely = [-signal.SIGTERM, _LOST_ANOTHER, 0]
    rank, code = min(enumerate(exit_codes), key=lambda ended: ended[1] in unlikely and 1 + unlikely.index(ended[1]))
    return rank, f"ended by {signal.Signals(-code).name if code < 0 else 'an error'}"


def _ended(rank: int, how: str, config: TrainConfig) -> TrainingError:
    """The error for a process that left the others behind."""
    return TrainingError(f"process {rank + 1} of {config.processes} {how}; {_GO_ON}")


def _on_executors(work: Work, config: TrainConfig) -> Any:
    """Start the processes by pyspark's TorchDistributor, which sends what they say to this one's standard error."""
    from pyspark.ml.torch.distributor import TorchDistributor

    from ptec_udf.engine.udf import gpus_of_a_task

    use_gpu = gpus_of_a_task(_session()) > 0
    out = Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    distributor = TorchDistributor(num_processes=config.processes, local_mode=False, use_gpu=use_gpu)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as shared:
        try:
            outcome: dict[str, Any] | None = distributor.run(_executor_process, work, config, shared)
        except Exception as error:
            raise TrainingError(f"a process on an executor ended ({type(error).__name__}); {_GO_ON}") from None
    if outcome is None:
        raise TrainingError(f"the first process on an executor said nothing in the end; {_GO_ON}")
    return outcome


def _session() -> SparkSession:
    """Return the session of this process, or the one that spark-submit asks for."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    if SparkContext._active_spark_context is None and "PYSPARK_GATEWAY_PORT" not in os.environ:
        raise ConfigError(
            "processes_on must be local without a Spark session, was: executors; start jobs/train.py by spark-submit"
        )
    # Spark starts `python3` from the PATH otherwise, not the interpreter that has our packages.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    return SparkSession.getActiveSession() or SparkSession.builder.appName("ptec train").getOrCreate()


def _with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """Let paths mean the same in processes that work in other folders; a URI does already."""
    places = {name: getattr(config, name) for name in ("extract", "out", "start_from")}
    paths = {name: str(Path(place).absolute()) for name, place in places.items() if place and "://" not in place}
    kind, _, rest = config.backbone.partition(":")
    if kind == "path":
        paths["backbone"] = f"path:{Path(rest).absolute()}"
    return config.model_copy(update=paths)


def _executor_process(work: Work, config: TrainConfig, shared: str) -> dict[str, Any]:
    """Take part as one process on an executor; TorchDistributor has set what the others are found by."""
    rank, local_rank = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK"))
    return _take_part(work, config, rank=rank, local_rank=local_rank, meeting="env://", shared=shared)


def _take_part(
    work: Work, config: TrainConfig, *, rank: int, local_rank: int, meeting: str, shared: str
) -> dict[str, Any]:
    """Meet the other processes and work; only the first one says anything but its end.

    Args:
        work: of every process.
        config: of the training.
        rank: number of this process.
        local_rank: its number on this machine.
        meeting: where torch lets the processes find each other.
        shared: a folder that the caller has made where the artifact will be.

    Returns:
        ``result``, or ``error`` and ``faults``.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    try:
        with _quiet(rank > 0), _group(meeting, rank, config.processes) as group:
            group.all_or_none(lambda: _check_shared(shared, config.out))
            return {"result": work(group)}
    except ProcessLostError:
        sys.exit(_LOST_ANOTHER)  # that one has told its reason, or was killed
    except PtecError as error:
        return {"error": type(error).__name__, "faults": getattr(error, "faults", [str(error)])}
    except Exception as error:
        places = "".join(traceback.format_tb(error.__traceback__))
        logger.info(f"{places}error: unexpected {type(error).__name__} in process {rank + 1} at the place above")
        sys.exit(1)


@contextmanager
def _group(meeting: str, rank: int, size: int) -> Iterator[Group]:
    """Join torch's process group while the block runs; gloo sends over any network and needs no GPU."""
    # One that is lost is noticed at once; one that is slower may take its time.
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size, timeout=_PATIENCE)
    try:
        yield Group(rank, size)
    finally:
        distributed.destroy_process_group()


@contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    """Keep progress lines of a process back while the block runs."""
    with open(os.devnull, "w") as nothing, redirect_stderr(nothing if wanted else sys.stderr):
        yield


def _check_shared(shared: str, out: str) -> None:
    """Refuse to train where this process does not see the folder that the artifact will be in."""
    if not Path(shared).exists():
        raise ConfigError(f"out must be in a folder that all processes see, was: {out!r}; choose one on a shared disk")
