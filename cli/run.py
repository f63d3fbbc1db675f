"""``autoscorer run``."""

from __future__ import annotations

import argparse
from typing import Any

from .arguments import add_backend, add_workspace
from .progress import progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace(parser)
    add_backend(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ..tasks.run import run_workspace

    with progress(not args.json) as observer:
        report = run_workspace(args.workspace, settings=args.settings, backend=args.backend, observer=observer)
    if report.error is not None:
        raise report.error
    return report.to_dict()


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    used = data["resources"]
    memory = f"{used['peak_memory_bytes'] / 2**20:.0f} MiB" if used["peak_memory_bytes"] else "unknown memory"
    cpu = f"{used['cpu_seconds']:.2f} CPU seconds" if used["cpu_seconds"] is not None else "unknown CPU time"
    parts = [memory, cpu]
    if used["gpu_memory_bytes"] is not None:
        parts.append(f"{used['gpu_memory_bytes'] / 2**20:.0f} MiB of GPU memory")
    if used["gpu_seconds"] is not None:
        parts.append(f"{used['gpu_seconds']:.2f} GPU seconds")
    print(f"The model ran for {data['run_seconds']:.2f} s ({', '.join(parts)}) and left {used['output_files']} files.")
    for note in data["notes"]:
        print(f"note: {note}")
