"""Write the seccomp profile for those who don't take it as the Docker Engine does: nodes of a cluster, and the kernel.

The engine's form has conditions: rules for an architecture, for a capability, from a kernel on. A kubelet passes a
profile to the runtime as it is, and containerd reads it in the form of the OCI, which has no conditions: it would take
every rule, those for CAP_SYS_ADMIN among them. So the conditions are settled here, for a container without any
capability on a kernel from 4.8 on, and for one architecture in each file.

bubblewrap hands a program to the kernel. libseccomp compiles it, once, here: a machine that seals by bubblewrap needs
neither the library nor its version.

    .venv/bin/python scripts/seccomp.py            writes deployments/kubernetes/seccomp/{amd64,arm64}.json and
                                                   executors/seccomp/{x86_64,aarch64}.bpf
    .venv/bin/python scripts/seccomp.py --check    only says which are out of date
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "executors" / "seccomp" / "profile.json"
FOLDER = ROOT / "deployments" / "kubernetes" / "seccomp"
ARCHITECTURES = {"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}
PROGRAMS = ROOT / "executors" / "seccomp"
# As `platform.machine()` names them.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_KERNEL = (4, 8)
# AUDIT_ARCH_* of <linux/audit.h>.
_TOKENS = {
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_ARM": 0x40000028,
}
# enum scmp_compare, enum scmp_filter_attr, and errnos of <seccomp.h>.
_COMPARISONS = ("", "NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
_BAD_ARCHITECTURE, _NO_NEW_PRIVILEGES, _OPTIMIZE = 2, 3, 8
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
# From 424 on a call has one number on every architecture. libseccomp 2.5.4, which is what there is, does not know these
# names. What the profile allows of them is let through before its own program, and the others up to the bound are
# answered by ENOSYS: the C library of a newer image can do without what is not there, and not without what is refused.
_NEWER = {
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
}
_FIRST_NEWER, _BOUND = 451, 1024
_X32_BIT = 0x40000000
# <linux/bpf_common.h>: load a word, and it, jumps, return.
_LOAD, _AND, _JUMP_GE, _JUMP_EQ, _RETURN = 0x20, 0x54, 0x35, 0x15, 0x06


class _Argument(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint),
        ("comparison", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("other", ctypes.c_uint64),
    )


def main(arguments: list[str]) -> int:
    """Write or check the files; the exit code is 1 where a checked one is out of date."""
    parser = argparse.ArgumentParser(prog="scripts/seccomp.py", description="Writes the seccomp profile's other forms.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is out of date")
    check = parser.parse_args(arguments).check
    stale = False
    for path, content in files(json.loads(SOURCE.read_text(encoding="utf-8"))):
        if path.exists() and path.read_bytes() == content:
            continue
        stale = True
        print(f"{path.relative_to(ROOT)} {'is out of date; run scripts/seccomp.py' if check else 'written'}")
        if not check:
            path.write_bytes(content)
    return 1 if check and stale else 0


def files(profile: dict[str, Any]) -> Iterator[tuple[Path, bytes]]:
    """Every file that is made from the profile, and what is to be in it."""
    for name in ARCHITECTURES:
        own = settled(profile, name)
        yield FOLDER / f"{name}.json", (json.dumps(own, indent=2) + "\n").encode()
        yield PROGRAMS / f"{MACHINES[name]}.bpf", compiled(own)


def settled(profile: dict[str, Any], architecture: str) -> dict[str, Any]:
    """The profile without conditions, for a container without capabilities.

    Args:
        profile: In the engine's form.
        architecture: Of the nodes, as Go calls it.
    """
    (entry,) = [each for each in profile["archMap"] if each["architecture"] == ARCHITECTURES[architecture]]
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": [entry["architecture"], *entry["subArchitectures"]],
        "syscalls": [
            {key: rule[key] for key in ("names", "action", "errnoRet", "args") if key in rule}
            for rule in profile["syscalls"]
            if _holds(rule, architecture)
        ],
    }


def _holds(rule: dict[str, Any], architecture: str) -> bool:
    """Whether a rule holds for a container without capabilities.

    Raises:
        ValueError: For a condition that is not known here; leaving it out could open what it closes.
    """
    includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
    unknown = {*(includes.keys() - {"caps", "arches", "minKernel"}), *(excludes.keys() - {"caps", "arches"})}
    if unknown:
        raise ValueError(f"conditions that are not known here: {', '.join(sorted(unknown))}")
    if includes.get("caps"):
        return False
    if includes.get("arches") and architecture not in includes["arches"]:
        return False
    if "minKernel" in includes and tuple(map(int, includes["minKernel"].split("."))) > _KERNEL:
        raise ValueError(f"a rule needs kernel {includes['minKernel']}, and nodes may have an earlier one")
    return architecture not in excludes.get("arches", [])


def compiled(profile: dict[str, Any]) -> bytes:
    """A profile without conditions as the program that the kernel takes, ``struct sock_filter`` after another.

    Args:
        profile: As ``settled`` makes it.

    Raises:
        OSError: libseccomp is not there, or refuses a rule.
    """
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    parts = []
    for architecture in profile["architectures"]:
        # Each by itself: a call that one of them does not know would be refused for all.
        part = ctypes.c_void_p(library.seccomp_init(_action(profile["defaultAction"], profile["defaultErrnoRet"])))
        _must(library.seccomp_arch_remove(part, 0) if architecture != _native(library) else 0)
        if architecture != _native(library):
            _must(library.seccomp_arch_add(part, _TOKENS[architecture]))
        _add_rules(library, part, profile["syscalls"])
        parts.append(part)
    whole, *others = parts
    for part in others:
        _must(library.seccomp_merge(whole, part))
    _must(library.seccomp_attr_set(whole, _BAD_ARCHITECTURE, ctypes.c_uint32(_action("SCMP_ACT_ERRNO", 1))))
    _must(library.seccomp_attr_set(whole, _OPTIMIZE, ctypes.c_uint32(2)))
    fd = os.memfd_create("program")
    try:
        _must(library.seccomp_export_bpf(whole, fd))
        os.lseek(fd, 0, os.SEEK_SET)
        program = os.read(fd, 1 << 20)
    finally:
        os.close(fd)
        library.seccomp_release(whole)
    return _newer(profile["syscalls"]) + program


def _add_rules(library: Any, part: ctypes.c_void_p, rules: list[dict[str, Any]]) -> None:
    for rule in rules:
        action = _action(rule["action"], rule.get("errnoRet", 1))
        tests = [
            _Argument(each["index"], _COMPARISONS.index(each["op"].removeprefix("SCMP_CMP_")), *_values(each))
            for each in rule.get("args", [])
        ]
        for name in rule["names"]:
            # Rules are added with this machine's numbers; those that it does not have get one below zero.
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number != -1:
                array = (_Argument * len(tests))(*tests)
                _must(library.seccomp_rule_add_array(part, action, number, len(tests), array), (0, -17))


def _newer(rules: list[dict[str, Any]]) -> bytes:
    """What comes before the program, for calls that libseccomp does not know."""
    wanted = {
        name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args") for name in rule["names"]
    }
    numbers = sorted(_NEWER[name] for name in wanted & _NEWER.keys())
    skip = len(numbers) + 2
    steps = [
        (_LOAD, 0, 0, 0),
        (_AND, 0, 0, ~_X32_BIT & 0xFFFFFFFF),
        (_JUMP_GE, 0, skip + 1, _FIRST_NEWER),
        (_JUMP_GE, skip, 0, _BOUND),
        *((_JUMP_EQ, len(numbers) - place, 0, number) for place, number in enumerate(numbers)),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _values(test: dict[str, Any]) -> tuple[int, int]:
    if test["op"] == "SCMP_CMP_MASKED_EQ":
        return test["value"], test.get("valueTwo", 0)
    return test["value"], 0


def _native(library: Any) -> str:
    library.seccomp_arch_native.restype = ctypes.c_uint32
    native = library.seccomp_arch_native()
    return next(name for name, token in _TOKENS.items() if token == native)


def _action(name: str, number: int) -> int:
    return {"SCMP_ACT_ALLOW": _ALLOW, "SCMP_ACT_ERRNO": _ERRNO | number}[name]


def _must(code: int, fine: tuple[int, ...] = (0,)) -> None:
    if code not in fine:
        raise OSError(-code, f"libseccomp refuses: {os.strerror(-code)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
