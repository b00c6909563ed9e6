"""Where runs take place: which device, and which of several each worker sees."""

from __future__ import annotations

import os
from typing import Any

from sooner.error import SoonerError, nearest

DEVICES = ("auto", "cpu", "cuda", "mps")
VISIBLE = "CUDA_VISIBLE_DEVICES"


def device_of(name: str) -> str:
    """Return the device that "auto" means here, or the one that is named.

    Raises:
        SoonerError: the name is unknown.
    """
    if name not in DEVICES:
        raise SoonerError(f"--device {name!r} is unknown{nearest(name, DEVICES)}; choose {', '.join(DEVICES)}")
    if name != "auto":
        return name
    torch: Any
    try:
        import torch
    except ImportError:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def refuse_missing(device: str) -> None:
    """Refuse a device that torch does not find here.

    Raises:
        SoonerError: names it.
    """
    import torch

    missing = device == "cuda" and not torch.cuda.is_available()
    if missing or (device == "mps" and not torch.backends.mps.is_available()):
        raise SoonerError(f"--device {device}: torch finds no such device here; choose cpu, or install a torch for it")


def places(gpus: str | None, per_run: int, device: str) -> list[dict[str, str]]:
    """Return the environment of each place for a run: the GPUs that it sees; none where runs share what there is.

    Args:
        gpus: as typed, "0,1,2,3"; None for all that are visible.
        per_run: GPUs of one run.
        device: as `device_of` returns it; only "cuda" has places.

    Raises:
        SoonerError: GPUs listed twice, or numbers that do not go together.
    """
    if device != "cuda":
        if gpus is not None or per_run != 1:
            raise SoonerError(f"--gpus and --gpus-per-run place runs on CUDA devices, and these run on {device}")
        return []
    listed = _visible() if gpus is None else [one.strip() for one in gpus.split(",") if one.strip()]
    if not listed:
        raise SoonerError(f"--gpus {gpus!r} names no device; write it like 0,1,2,3")
    double = [one for one in listed if listed.count(one) > 1]
    if double:
        raise SoonerError(f"--gpus {gpus} has {double[0]} twice; name each device once")
    if per_run < 1 or len(listed) % per_run:
        raise SoonerError(
            f"--gpus-per-run {per_run} does not divide the {len(listed)} GPUs ({','.join(listed)}); choose one that "
            "does, or name others with --gpus"
        )
    return [{VISIBLE: ",".join(listed[i : i + per_run])} for i in range(0, len(listed), per_run)]


def _visible() -> list[str]:
    """Return the devices that this process may use, by the names that the driver knows."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return [one.strip() for one in named.split(",") if one.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
