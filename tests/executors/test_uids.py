"""Each model that runs has a uid of its own, whoever else takes from the same range at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from autoscorer.core.config import load_settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.executors.docker import executor as docker
from autoscorer.executors.docker.executor import DockerExecutor
from autoscorer.executors.uids import DEFAULT_RANGE, UidLease, can_give, lease_uid, parse_range

FEW = range(2_090_000_000, 2_090_000_008)

HOLDER = """
import sys
from pathlib import Path
from autoscorer.executors.uids import lease_uid
lease = lease_uid(Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3])), lambda uid: False)
print(lease.uid, flush=True)
sys.stdin.read()
"""


def _free(uid: int) -> bool:
    return False


@pytest.fixture
def leases() -> Iterator[list[UidLease]]:
    taken: list[UidLease] = []
    yield taken
    for lease in taken:
        lease.release()


def _refused(home: Path, uids: range) -> AutoScorerError:
    with pytest.raises(AutoScorerError) as caught:
        lease_uid(home, uids, _free)
    return caught.value


def test_no_two_threads_have_the_same_uid(home: Path, leases: list[UidLease]) -> None:
    with ThreadPoolExecutor(8) as pool:
        leases += pool.map(lambda _: lease_uid(home, FEW, _free), range(8))
    assert {lease.uid for lease in leases} == set(FEW)
    error = _refused(home, FEW)
    assert error.code is ErrorCode.BACKEND_UNAVAILABLE and "uid_range" in error.message
    leases[3].release()
    leases.append(lease_uid(home, FEW, _free))
    assert leases[-1].uid == leases[3].uid, "what was let go of can be had again"
    leases[3].release()
    assert _refused(home, FEW), "letting go twice must not let go of another's"


def test_no_two_processes_have_the_same_uid_and_a_killed_one_has_none(home: Path) -> None:
    two = FEW[:2]
    command = [sys.executable, "-c", HOLDER, str(home), str(two[0]), str(two[-1] + 1)]
    holders = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        for _ in range(2)
    ]
    try:
        told = [holder.stdout.readline() for holder in holders if holder.stdout is not None]
        assert {int(line) for line in told} == set(two)
        assert _refused(home, two).code is ErrorCode.BACKEND_UNAVAILABLE
        holders[0].kill()
        holders[0].communicate()
        lease = lease_uid(home, two, _free)
        assert lease.uid == int(told[0])
        lease.release()
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


def test_a_process_forked_meanwhile_does_not_keep_the_uid(home: Path) -> None:
    lease = lease_uid(home, FEW[:1], _free)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    try:
        lease.release()
        again = lease_uid(home, FEW[:1], _free)
        again.release()
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(child, 0)


def test_a_uid_that_a_container_has_is_passed_over(home: Path, leases: list[UidLease]) -> None:
    leases += [lease_uid(home, FEW, lambda uid: uid != FEW[5]) for _ in range(1)]
    assert leases[0].uid == FEW[5]


def test_an_engine_that_does_not_answer_costs_no_uid(home: Path) -> None:
    def away(uid: int) -> bool:
        raise AutoScorerError(ErrorCode.BACKEND_UNAVAILABLE, "away")

    for _ in range(3):
        with pytest.raises(AutoScorerError, match="away"):
            lease_uid(home, FEW[:1], away)
    lease_uid(home, FEW[:1], _free).release()


def test_a_home_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert _refused(tmp_path / "file", FEW).code is ErrorCode.INVALID_REQUEST


def test_the_range_is_written_with_both_ends() -> None:
    assert list(parse_range("7-9")) == [7, 8, 9]
    assert list(parse_range("7-7")) == [7]


def test_the_default_range_is_nobody_elses() -> None:
    """What useradd, subuid, systemd, its containers, OpenShift, SSSD and FreeIPA give out by default."""
    others = [
        range(65_536), range(100_000, 600_100_001), range(524_288, 1_879_048_192), range(1_000_000_000, 2_000_000_000),
        range(200_000, 2_000_200_001), range(2_147_352_576, 2_147_418_112),
    ]  # fmt: skip
    for other in others:
        assert other[-1] < DEFAULT_RANGE[0] or DEFAULT_RANGE[-1] < other[0]
    assert DEFAULT_RANGE[-1] < 2**31, "engines take no larger one"


@pytest.mark.parametrize(
    ("variable", "root", "mapped", "expected"),
    [
        ({}, False, True, "own"),
        ({}, True, True, "one of the range"),
        ({}, True, False, "nobody"),
        ({"USER": "123:456"}, True, True, "123:456"),
        ({"USER": "123:456"}, False, True, "BACKEND_UNAVAILABLE"),
        ({"UID_RANGE": "2090000000-2090000007"}, True, True, "one of few"),
        ({"UID_RANGE": "2090000000-2090000007"}, True, False, "BACKEND_UNAVAILABLE"),
        ({"UID_RANGE": "2090000000-2090000007"}, False, True, "BACKEND_UNAVAILABLE"),
    ],
)
def test_who_calls_and_what_is_configured_decide_which_uid_a_model_gets(
    monkeypatch: pytest.MonkeyPatch, variable: dict[str, str], root: bool, mapped: bool, expected: str
) -> None:
    for name, value in variable.items():
        monkeypatch.setenv(f"AUTOSCORER_EXECUTORS__DOCKER__{name}", value)
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1234)
    monkeypatch.setattr(os, "getegid", lambda: 0 if root else 1234)
    monkeypatch.setattr(docker, "can_give", lambda uids: root and mapped)
    monkeypatch.setattr(DockerExecutor, "_is_in_use", lambda self, uid: False)
    executor = DockerExecutor(load_settings())
    try:
        uid, gid = executor.owner()
    except AutoScorerError as error:
        assert error.code == expected
        return
    finally:
        executor.close()
    known = {(1234, 1234): "own", (65534, 65534): "nobody"}
    ranges = {"one of few": FEW, "one of the range": DEFAULT_RANGE}
    if expected in ranges:
        assert uid == gid and uid in ranges[expected]
    else:
        assert known.get((uid, gid), f"{uid}:{gid}") == expected


def test_who_may_give_files_away() -> None:
    assert can_give(DEFAULT_RANGE) == (os.geteuid() == 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a user namespace")
def test_a_user_namespace_gives_only_what_is_mapped_there() -> None:
    code = "from autoscorer.executors.uids import *; print(can_give(range(0, 1)), can_give(DEFAULT_RANGE))"
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"], done.stderr
