"""The attacks, as data: what is promised, what tries it, and who judges the answer."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from . import judgement as judges
from .judgement import Judge

__all__ = ["ATTACKS", "EVERYTHING", "LIMIT", "NEIGHBOURS", "Attack"]

# Runs of the model: one that tries all that needs no limit, two at once, and one for each attack on a limit.
EVERYTHING, NEIGHBOURS, LIMIT = "everything", "neighbours", "limit"
# What docs/sealed-run.md says that a cluster does not hold for one pod.
_NO_CLUSTER = frozenset({"kubernetes"})


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One line of the matrix.

    Args:
        name: Its name.
        promise: What holds, in one sentence.
        tries: Function of ``inside`` that tries it; of a run of its own, one of ``inside.limits.LIMITS``.
        judge: Says of its answer what was reached.
        asks: Arguments of that function.
        run: Which run of the model it is part of: ``EVERYTHING``, ``NEIGHBOURS``, or ``LIMIT``, one of its own.
        unpromised: Backends that do not promise it.
        silence_holds: Whether no answer in time is as good as a refusal.
        seconds: Of a run of its own: its timeout.
    """

    name: str
    promise: str
    tries: str
    judge: Judge
    asks: tuple[str, ...] = ()
    run: str = EVERYTHING
    unpromised: frozenset[str] = frozenset()
    silence_holds: bool = False
    seconds: float = 20


def _calls(name: str, promise: str, *asks: str, also: tuple[int, ...] = ()) -> Attack:
    return Attack(name=name, promise=promise, tries="calls", asks=asks, judge=judges.refused(*also))


def _limit(
    tries: str,
    promise: str,
    judge: Judge,
    *,
    seconds: float = 20,
    unpromised: frozenset[str] = frozenset(),
) -> Attack:
    return Attack(
        name=tries.replace("_", "-"),
        promise=promise,
        tries=tries,
        judge=judge,
        run=LIMIT,
        seconds=seconds,
        unpromised=unpromised,
    )


_TOO_MUCH = "RESOURCE_ERROR"

ATTACKS: tuple[Attack, ...] = (
    Attack(
        name="ground-truth",
        promise="The ground truth is nowhere in it: not by name, not through other processes' roots, not in a file.",
        tries="ground_truth",
        judge=judges.no_secret,
    ),
    Attack(
        name="mounts",
        promise="Nothing that the kernel tells of mounts names the workspace.",
        tries="mounts",
        judge=judges.tells_no_workspace,
    ),
    Attack(
        name="scorer-params",
        promise="Its meta.json names neither the scorer nor its params.",
        tries="job",
        judge=judges.job_is_silent,
    ),
    Attack(
        name="environment",
        promise="No variable of AutoScorer's environment reaches it.",
        tries="environments",
        judge=judges.no_secret,
    ),
    Attack(
        name="host-files",
        promise="Files of the host that are somebody's own (/etc/shadow, homes, tokens) can't be opened.",
        tries="host_files",
        judge=judges.nothing,
    ),
    Attack(
        name="hidden-proc",
        promise="What /proc and /sys tell of the whole machine (its memory, keys, timers, firmware) is hidden.",
        tries="hidden_files",
        judge=judges.nothing,
        unpromised=_NO_CLUSTER,
    ),
    Attack(
        name="descriptors",
        promise="No open file of AutoScorer or of the backend is handed on to it.",
        tries="descriptors",
        judge=judges.nothing,
    ),
    Attack(
        name="interfaces",
        promise="It has no network interface but a loopback of its own.",
        tries="interfaces",
        judge=judges.only("lo"),
        unpromised=_NO_CLUSTER,
    ),
    Attack(
        name="network",
        promise="It reaches nobody: not the host's loopback, not the host's addresses, not another machine.",
        tries="connections",
        judge=judges.reaches_nobody,
    ),
    Attack(
        name="dns",
        promise="No name is resolved for it.",
        tries="names_resolved",
        judge=judges.nothing,
        silence_holds=True,
    ),
    Attack(
        name="abstract-sockets",
        promise="Sockets of the host that have no file can't be reached.",
        tries="abstract_sockets",
        judge=judges.nothing,
    ),
    Attack(
        name="engine-sockets",
        promise="Sockets of engines and of the system can't be reached.",
        tries="engine_sockets",
        judge=judges.nothing,
    ),
    Attack(
        name="host-processes",
        promise="No process outside is seen.",
        tries="host_processes",
        judge=judges.nothing,
    ),
    Attack(
        name="tracing",
        promise="No process outside can be traced, and its memory and its root can't be opened.",
        tries="traced",
        judge=judges.nothing,
    ),
    Attack(
        name="first-process",
        promise="The first process of its namespace may no more than the model, so that taking it over gains nothing.",
        tries="first_process",
        judge=judges.first_process_may_no_more,
    ),
    Attack(name="user", promise="It is neither root nor in root's group.", tries="user", judge=judges.is_not_root),
    Attack(
        name="capabilities",
        promise="It has no capability, and can get none.",
        tries="capabilities",
        judge=judges.has_no_capability,
    ),
    Attack(
        name="filter",
        promise="no-new-privileges is set, and its system calls go through a filter (seccomp mode 2).",
        tries="seccomp_mode",
        judge=judges.is_filtered,
    ),
    Attack(
        name="setuid",
        promise="A setuid program runs as the model, and not as its owner.",
        tries="setuid_programs",
        judge=judges.no_program_gains,
    ),
    _calls("io_uring", "io_uring is refused.", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    _calls("userfaultfd", "userfaultfd is refused.", "userfaultfd"),
    _calls("keyrings", "The kernel's keyrings are refused.", "keyctl", "add_key", "request_key"),
    _calls("bpf-perf", "bpf and perf_event_open are refused.", "bpf", "perf_event_open"),
    _calls(
        "user-namespaces",
        "It makes no namespace and enters none, a user namespace least of all.",
        *("unshare", "clone", "clone3", "setns"),
        # So many as there may be: none.
        also=(errno.ENOSPC, errno.EUSERS),
    ),
    _calls("mounting", "It mounts nothing.", "mount", "pivot_root", "fsopen", "open_tree", "move_mount"),
    _calls("file-handles", "No file is opened by its handle, past all folders.", "open_by_handle_at"),
    _calls(
        "kernel-code",
        "It loads no module and no kernel, and changes neither swap nor accounting.",
        *("kexec_load", "init_module", "finit_module", "delete_module", "swapon", "acct"),
    ),
    _calls(
        "rare-sockets",
        "Sockets of kinds where kernels had holes are refused.",
        *("socket AF_ALG", "socket AF_VSOCK"),
        also=(errno.EAFNOSUPPORT,),
    ),
    Attack(
        name="other-doors",
        promise="The other doors of an x86_64 kernel (x32, int 0x80) are no way around that.",
        tries="other_doors",
        judge=judges.refused(),
    ),
    Attack(name="terminal", promise="It has no terminal to type on.", tries="terminal", judge=judges.nothing),
    Attack(
        name="root-files",
        promise="It writes nowhere but to its output and to folders in memory of its own.",
        tries="places_written",
        judge=judges.nothing,
    ),
    Attack(
        name="input-files",
        promise="Its input and its meta.json can't be changed, and not be linked to.",
        tries="input_written",
        judge=judges.nothing,
    ),
    Attack(
        name="kernel-settings",
        promise="No setting of the kernel or of control groups can be written (/proc/sys, /sys).",
        tries="kernel_settings",
        judge=judges.nothing,
    ),
    Attack(
        name="devices",
        promise="It makes no device, and has none but those that every program needs.",
        tries="devices",
        judge=judges.nothing,
    ),
    Attack(
        name="core-dumps",
        promise="It leaves no core dump, which the host's kernel may hand to a program outside.",
        tries="core_dumps",
        judge=judges.core_dumps_are_off,
        unpromised=_NO_CLUSTER,
    ),
    Attack(
        name="open-files",
        promise="It opens no more files at once than it may (security.limits.nofile).",
        tries="open_files",
        judge=judges.within,
        unpromised=_NO_CLUSTER,
    ),
    Attack(
        name="two-models",
        promise="Two models that run at once see nothing of each other: processes, sockets, shared memory, files.",
        tries="meet",
        judge=judges.nothing_of_the_other,
        run=NEIGHBOURS,
        seconds=60,
    ),
    _limit("memory", "More memory than it may have ends it.", judges.ends_with(_TOO_MUCH, "memory")),
    _limit(
        "memory_files",
        "Its folders in memory count as its memory, or are full.",
        judges.ends_with(_TOO_MUCH, "memory", "disk"),
    ),
    _limit(
        "processes",
        "More processes than it may have end it.",
        judges.ends_with(_TOO_MUCH, "processes"),
        unpromised=_NO_CLUSTER,
    ),
    _limit("disk", "More output than it may write ends it.", judges.ends_with(_TOO_MUCH, "disk")),
    _limit(
        "deleted_files",
        "Files that it deletes and keeps open count as output.",
        judges.ends_with(_TOO_MUCH, "disk"),
        unpromised=_NO_CLUSTER,
    ),
    _limit("many_files", "More files than it may write end it.", judges.ends_with(_TOO_MUCH, "files")),
    _limit("long_time", "Its time ends it, whatever signals it ignores.", judges.ends_with("TIMEOUT_ERROR"), seconds=2),
    _limit("links", "Links in its output are refused, and not followed.", judges.ends_with("OUTPUT_REJECTED")),
)
