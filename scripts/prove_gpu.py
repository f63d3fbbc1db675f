"""Whether runs get the GPUs that they lease, and no others: tried on the devices of this machine.

``scripts/prove-gpu`` uses the backend process, whose program asks CUDA itself; ``scripts/prove-gpu --image IMAGE`` uses
Docker, where ``nvidia-smi -L`` lists what there is in a container of that image (any with glibc will do).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from pathlib import Path

from autoscorer.core.config import load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.executors.base import Gpu
from autoscorer.executors.gpu.inventory import take_inventory
from autoscorer.tasks.run import run_workspace

_UUID = re.compile(r"\b(?:GPU|MIG)-[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")
# nvidia-smi heeds no CUDA_VISIBLE_DEVICES, so where that is all that keeps devices apart CUDA is asked.
_ASKS_CUDA = """\
import ctypes, uuid
cuda = ctypes.CDLL("libcuda.so.1")
assert cuda.cuInit(0) == 0, "cuInit failed"
count = ctypes.c_int()
assert cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
for index in range(count.value):
    device, found = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    assert cuda.cuDeviceGet(ctypes.byref(device), index) == 0
    assert cuda.cuDeviceGetUuid_v2(ctypes.byref(found), device) == 0
    print("GPU-" + str(uuid.UUID(bytes=bytes(found))))
"""


def main(arguments: list[str]) -> int:
    """0 where every device was seen alone; 1 where one was not, or there is none."""
    parser = argparse.ArgumentParser(prog="scripts/prove-gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--image", help="run in containers of this image, by Docker; else as plain processes")
    image = parser.parse_args(arguments).image
    try:
        found = take_inventory(load_settings())
    except AutoScorerError as error:
        print(f"There is no GPU here: {error.message}")
        return 1
    for line in found.left_out:
        print(f"left out: {line}")
    if not found.gpus:
        print("There is no GPU here that may be leased.")
        return 1
    wrong = 0
    for gpu in found.gpus:
        problem = prove(gpu, image)
        wrong += problem is not None
        print(f"{gpu.uuid} ({gpu.type or 'unknown type'}): {problem or 'was seen, and no other device'}")
    return 1 if wrong else 0


def prove(gpu: Gpu, image: str | None) -> str | None:
    """Run a program with one device leased; what is wrong with what it saw."""
    os.environ["AUTOSCORER_EXECUTORS__GPU__DEVICES"] = json.dumps([gpu.uuid])
    container = (
        {"cmd": ["python3", "-c", _ASKS_CUDA]} if image is None else {"image": image, "cmd": ["nvidia-smi", "-L"]}
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "prove-gpu"
        (root / "input").mkdir(parents=True)
        meta = {"container": container, "resources": {"gpu": 1}, "timeout": 120}
        (root / "meta.json").write_text(json.dumps(meta))
        try:
            report = run_workspace(root, settings=load_settings(), backend="process" if image is None else "docker")
        except AutoScorerError as error:
            return f"the run failed: {error.message}"
        if report.error is not None:
            return f"the run failed: {report.error.message} {report.error.details.get('log', '')}"
        problem = judge(gpu, (root / "logs" / "container.log").read_text(errors="replace"))
        used = report.resources
        print(f"  {used.gpu_memory_bytes} bytes at the peak, {used.gpu_seconds} GPU seconds, notes: {report.notes[1:]}")
        return problem


def judge(gpu: Gpu, text: str) -> str | None:
    """What is wrong with the devices that a program has listed.

    Args:
        gpu: What it had leased.
        text: What it printed; the GPU of a slice may stand there too, and CUDA calls slices as GPUs.
    """

    def number(uuid: str) -> str:
        return uuid.partition("-")[2].lower()

    seen = {number(uuid) for uuid in _UUID.findall(text)}
    others = seen - {number(gpu.uuid)} - ({number(gpu.parent)} if gpu.parent else set())
    if number(gpu.uuid) not in seen:
        return f"was NOT seen; what was: {text.strip()[:500] or 'nothing'}"
    return f"OTHER devices were seen beside it: {', '.join(sorted(others))}" if others else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
