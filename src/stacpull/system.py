"""The environment of this process: the system, home directories, job arrays and variables."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

INTERRUPTED = 130  # the exit code, also of a report: 128 and the number of SIGINT, as in shells
AWS_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # variables, by precedence
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
GARBAGE_AFTER = 100_000  # new objects between runs of the cycle collector, which are rare for speed


def expand_user(path: str) -> Path:
    return Path(os.path.expanduser(path))  # noqa: PTH111 - `Path.expanduser` raises RuntimeError


def expanded_or_none(path: str) -> Path | None:
    """Return the path of a settings file that is used if it exists; None if `~` is not known."""
    file = expand_user(path)
    return None if str(file).startswith("~") else file


def boot_id() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def require_posix() -> None:
    if sys.platform == "win32":
        raise ImportError(
            "stacpull runs on Linux, and not on Windows: use it in the Windows Subsystem for Linux (WSL)."
        )


_JOB_ARRAYS = {
    "SLURM_ARRAY_TASK_ID": ("SLURM_ARRAY_TASK_COUNT", 1, "SLURM_ARRAY_TASK_MIN"),
    "AWS_BATCH_JOB_ARRAY_INDEX": ("AWS_BATCH_JOB_ARRAY_SIZE", 0, ""),
    "JOB_COMPLETION_INDEX": ("", 0, ""),
    "PBS_ARRAY_INDEX": ("", 1, ""),
}
"""Variables with the number of a task in Slurm, AWS Batch, Kubernetes and PBS. For each: the variable with
the number of tasks, the default first index, and the variable with the actual first index."""


def job_array_task(count: int | None = None) -> tuple[int, int]:
    """Return which task of a job array this process is: (I, N), the I-th of N."""
    task = next((name for name in _JOB_ARRAYS if os.environ.get(name)), None)
    if task is None:
        raise ValueError(f"auto needs a task of a job array: none of {', '.join(_JOB_ARRAYS)} is set")
    tasks, usual_first, lowest = _JOB_ARRAYS[task]
    index = int(os.environ[task])
    first = int(os.environ.get(lowest) or usual_first)
    if count is not None:
        first = min(usual_first, first)  # the array may begin at 0, or be a part of the N tasks
    elif os.environ.get(tasks):
        count = int(os.environ[tasks])
    else:
        raise ValueError("auto needs the number of tasks, which the scheduler does not say: use auto/N")
    number = index - first
    if not 0 <= number < count:
        raise ValueError(f"{task}={index} is not one of {count} tasks numbered from {first}: use I/N")
    return number + 1, count


def with_active_endpoints(variables: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables without those that AWS_IGNORE_CONFIGURED_ENDPOINT_URLS turns off."""
    if variables.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true":
        return variables
    return {name: value for name, value in variables.items() if name not in AWS_ENDPOINTS}


def variables_of(prefixes: tuple[str, ...] = ("",)) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


def add_variables(environ: Mapping[str, str]) -> None:
    os.environ.update(environ)
