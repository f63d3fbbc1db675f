"""meta.json: every accepted spelling ends in one job, everything else in INVALID_META that says what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.config_sections import ResourceDefaults, ResourceLimits, Security
from autoscorer.core.errors import AutoScorerError, ErrorCode, InvalidWorkspace
from autoscorer.core.meta import load_job, model_meta, parse_job
from autoscorer.core.workspace import Workspace
from autoscorer.executors.limits import check_limits, effective_limits
from autoscorer.schemas.job import Job, parse_bytes
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

profile.register_profile("autoscorer", deadline=None)
profile.load_profile("autoscorer")

Gi, Mi = 1024**3, 1024**2

FULL: dict[str, Any] = {
    "job_id": "job-1",
    "task_type": "classification",
    "scorer": "classification_f1",
    "params": {"pass_threshold": 0.8},
    "container": {"image": "registry/model:tag", "cmd": ["python", "predict.py"], "env": {}, "shm_size": "64Mi"},
    "resources": {"cpu": 2, "memory": "4Gi", "gpu": 0, "disk": "1Gi"},
    "timeout": 300,
}


def parse(value: Any) -> Job:
    return parse_job(json.dumps(value))


def refused(value: Any) -> AutoScorerError:
    with pytest.raises(AutoScorerError) as caught:
        parse_job(value if isinstance(value, str) else json.dumps(value))
    assert caught.value.code is ErrorCode.INVALID_META
    assert caught.value.stage.value == "validation"
    assert all(c.isprintable() for c in caught.value.message)
    return caught.value


def test_the_designs_example_reads_as_it_stands() -> None:
    job = parse(FULL)
    assert (job.job_id, job.task_type, job.scorer, job.timeout) == ("job-1", "classification", "classification_f1", 300)
    assert job.params == {"pass_threshold": 0.8}
    assert job.container.cmd == ("python", "predict.py") and job.container.shm_size == 64 * Mi
    assert (job.resources.cpu, job.resources.memory, job.resources.gpu, job.resources.disk) == (2, 4 * Gi, 0, Gi)
    assert job.network_policy == "none"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"time_limit": 60}, {"timeout": 60}),
        ({"resources": {"gpus": 2}}, {"resources": {"gpu": 2}}),
        ({"container": {"gpus": 2}}, {"resources": {"gpu": 2}}),
        ({"container": {"gpus": 2}, "resources": {"cpu": 1}}, {"resources": {"gpu": 2, "cpu": 1}}),
        ({"container": {"gpus": 2}, "resources": None}, {"resources": {"gpu": 2}}),
        ({"container": {"gpus": 2}, "resources": {"gpu": 2, "gpus": 2}}, {"resources": {"gpu": 2}}),
        ({"scorer_params": {"a": 1}}, {"params": {"a": 1}}),
        ({"network_policy": "restricted"}, {"network_policy": "none"}),
        ({"container": {"network_policy": "restricted"}}, {}),
        ({"container": {"network_policy": "bridge"}}, {"network_policy": "bridge"}),
        ({"timeout": 5, "time_limit": 5.0}, {"timeout": 5}),
        ({"container": None, "resources": None}, {}),
        ({"resources": {"memory": "4Gi"}}, {"resources": {"memory": "4g"}}),
        ({"resources": {"memory": 4 * Gi}}, {"resources": {"memory": "4GB"}}),
        ({"version": 2}, {"version": "2"}),
    ],
    ids=lambda value: json.dumps(value),
)
def test_an_older_spelling_is_the_same_job(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert parse(old) == parse(new)


@pytest.mark.parametrize("uri", ["file://./input", "file://./input/", "./input", "input", None])
def test_the_workspaces_own_input_may_be_named(uri: str | None) -> None:
    assert parse({"input_uri": uri}).input_uri == uri


@pytest.mark.parametrize("uri", ["file://./input/..", "file:///etc", "s3://bucket/x", "file://./output", "", 5])
def test_no_other_place_can_be_named(uri: Any) -> None:
    assert refused({"input_uri": uri}).details["key"] == "input_uri"


@pytest.mark.parametrize(
    ("meta", "keys"),
    [
        ({"timeout": 1, "time_limit": 2}, ["time_limit", "timeout", "1", "2"]),
        ({"params": {}, "scorer_params": {"a": 1}}, ["scorer_params", "params"]),
        ({"resources": {"gpu": 1, "gpus": 2}}, ["resources.gpus", "resources.gpu"]),
        ({"container": {"gpus": 1}, "resources": {"gpu": 2}}, ["container.gpus", "resources.gpu"]),
        ({"container": {"gpus": 1}, "resources": {"gpus": 2}}, ["container.gpus", "resources.gpu"]),
        ({"container": {"network_policy": "none"}, "network_policy": "bridge"}, ["container.network_policy"]),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_two_spellings_that_differ_are_refused_by_name(meta: dict[str, Any], keys: list[str]) -> None:
    error = refused(meta)
    assert all(key in error.message for key in keys)
    assert error.details["key"] == keys[0]


@pytest.mark.parametrize(
    ("meta", "key", "near"),
    [
        ({"timout": 1}, "timout", "timeout"),
        ({"Scorer": "x"}, "Scorer", "scorer"),
        ({"scorer_param": {}}, "scorer_param", "scorer_params"),
        ({"container": {"imag": "x"}}, "container.imag", "image"),
        ({"container": {"command": []}}, "container.command", "cmd"),
        ({"resources": {"memmory": "1g"}}, "resources.memmory", "memory"),
        ({"resources": {"gpuz": 1}}, "resources.gpuz", "gpu"),
        ({"resources": {"gpu_type": ["A100"]}}, "resources.gpu_type", "gpu_types"),
        ({"zzzz": 1}, "zzzz", None),
        ({"": 1}, "", None),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_an_unknown_key_is_named_with_its_nearest(meta: dict[str, Any], key: str, near: str | None) -> None:
    error = refused(meta)
    assert error.details["key"] == key
    assert "unknown key" in error.message
    assert ("did you mean" in error.message) == (near is not None)
    if near is not None:
        assert repr(near)[:-1] in error.message


@pytest.mark.parametrize(
    ("meta", "key"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": True}, "timeout"),
        ({"timeout": "300"}, "timeout"),
        ({"timeout": None}, "timeout"),
        ({"timeout": 10**400}, "timeout"),
        ({"resources": {"cpu": True}}, "resources.cpu"),
        ({"resources": {"cpu": "2"}}, "resources.cpu"),
        ({"resources": {"cpu": 0}}, "resources.cpu"),
        ({"resources": {"cpu": -0.5}}, "resources.cpu"),
        ({"resources": {"cpu": 10**400}}, "resources.cpu"),
        ({"resources": {"cpu": 1e-10}}, "resources.cpu"),
        ({"resources": {"cpu": 1e-5}}, "resources.cpu"),
        ({"resources": {"cpu": 0.0099999}}, "resources.cpu"),
        ({"resources": {"cpu": 5e-324}}, "resources.cpu"),
        ({"resources": {"gpu": True}}, "resources.gpu"),
        ({"resources": {"gpu": -1}}, "resources.gpu"),
        ({"resources": {"gpu": 0.5}}, "resources.gpu"),
        ({"resources": {"gpu": "all"}}, "resources.gpu"),
        ({"resources": {"gpu_types": "A100"}}, "resources.gpu_types"),
        ({"resources": {"gpu_types": []}}, "resources.gpu_types"),
        ({"resources": {"gpu_types": [1]}}, "resources.gpu_types.0"),
        ({"resources": {"gpu_types": ["A100", "a/b"]}}, "resources.gpu_types.1"),
        ({"resources": {"gpu_types": [""]}}, "resources.gpu_types.0"),
        ({"resources": {"gpu_types": ["A" * 64]}}, "resources.gpu_types.0"),
        ({"resources": {"gpu_memory": "much"}}, "resources.gpu_memory"),
        ({"resources": {"gpu_memory": 0}}, "resources.gpu_memory"),
        ({"resources": {"memory": True}}, "resources.memory"),
        ({"resources": {"memory": 0}}, "resources.memory"),
        ({"resources": {"memory": -5}}, "resources.memory"),
        ({"resources": {"memory": 1.5}}, "resources.memory"),
        ({"resources": {"memory": 1}}, "resources.memory"),
        ({"resources": {"memory": 6 * Mi - 1}}, "resources.memory"),
        ({"resources": {"memory": {}}}, "resources.memory"),
        ({"resources": {"disk": "lots"}}, "resources.disk"),
        ({"resources": []}, "resources"),
        ({"resources": [], "container": {"gpus": 1}}, "resources"),
        ({"container": "image"}, "container"),
        ({"container": {"image": ""}}, "container.image"),
        ({"container": {"image": 5}}, "container.image"),
        ({"container": {"cmd": "python predict.py"}}, "container.cmd"),
        ({"container": {"cmd": {"a": 1}}}, "container.cmd"),
        ({"container": {"cmd": ["python", 1]}}, "container.cmd.1"),
        ({"container": {"cmd": ["python", "x\0y"]}}, "container.cmd.1"),
        ({"container": {"env": []}}, "container.env"),
        ({"container": {"env": {"A": 1}}}, "container.env.A"),
        ({"container": {"env": {"A": None}}}, "container.env.A"),
        ({"container": {"env": {"A": True}}}, "container.env.A"),
        ({"container": {"env": {"A": "x\0y"}}}, "container.env.A"),
        ({"container": {"env": {"A=B": "x"}}}, "container.env.A=B"),
        ({"container": {"env": {"": "x"}}}, "container.env."),
        ({"container": {"env": {"1A": "x"}}}, "container.env.1A"),
        ({"container": {"env": {"A\n": "x"}}}, "container.env.A\\n"),
        ({"params": []}, "params"),
        ({"params": None}, "params"),
        ({"scorer": ""}, "scorer"),
        ({"scorer": 5}, "scorer"),
        ({"job_id": "a/b"}, "job_id"),
        ({"job_id": ".."}, "job_id"),
        ({"job_id": "a\nb"}, "job_id"),
        ({"job_id": "\x1b[31m"}, "job_id"),
        ({"job_id": "x" * 201}, "job_id"),
        ({"job_id": ""}, "job_id"),
        ({"version": True}, "version"),
        ({"network_policy": None}, "network_policy"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_by_its_key(meta: dict[str, Any], key: str) -> None:
    error = refused(meta)
    assert error.details["key"] == key
    assert key in error.message


def test_the_least_that_an_engine_takes_is_told_and_taken() -> None:
    """Below them Docker sets no limit at all, or does not start the container, which passed for the system's fault."""
    assert "greater than or equal to 0.01" in refused({"resources": {"cpu": 1e-10}}).message
    assert "at least 6Mi" in refused({"resources": {"memory": "5Mi"}}).message
    for cpu in (0.01, 0.010000001, 1):
        assert parse({"resources": {"cpu": cpu}}).resources.cpu == cpu
    assert parse({"resources": {"memory": "6Mi"}}).resources.memory == 6 * Mi
    for text in ("NaN", "Infinity", "-Infinity", "1e999"):
        with pytest.raises(AutoScorerError) as caught:
            parse_job(f'{{"resources": {{"cpu": {text}}}}}')
        assert caught.value.code is ErrorCode.INVALID_META


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4Gi", 4 * Gi), ("4g", 4 * Gi), ("4G", 4 * Gi), ("4gb", 4 * Gi), ("4GiB", 4 * Gi), (" 4 Gi ", 4 * Gi),
        ("0.5Gi", 512 * Mi), ("1.5k", 1536), ("1", 1), ("1b", 1), (1, 1), ("0.1k", 102), ("2T", 2 * 1024**4),
        # Exact where a float is not.
        ("9007199254740993", 2**53 + 1), (2**63 - 1, 2**63 - 1), ("7.999999999999999999t", 8796093022207),
    ],
)  # fmt: skip
def test_a_size_reads_as_kubernetes_and_docker_write_it(text: Any, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "1e3", "", " ", "Gi", "-1", "-4Gi", "+4", ".5g", "5.", "4 G i", "4Gib4", "0", "0k", "0.0001", "٤Gi", "4Ei",
        "4P", "1_000", "0x10", "inf", "nan", "4g\0", True, False, None, 1.5, [], 0, -1, 2**63, "9" * 400, 10**400,
        "8388608t",
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_no_other_size_is_read(text: Any) -> None:
    with pytest.raises(ValueError):
        parse_bytes(text)


@given(
    number=st.fractions(min_value=0, max_value=10**6).map(lambda f: Fraction(round(f * 1000), 1000)),
    unit=st.sampled_from(["", "b", "k", "Ki", "KiB", "m", "Mi", "MB", "g", "Gi", "GiB", "T", "ti"]),
    spaces=st.sampled_from(["", " ", "  "]),
)
def test_sizes_are_exact_multiples_of_1024(number: Fraction, unit: str, spaces: str) -> None:
    power = "bkmgt".index((unit or "b")[0].lower())
    expected = int(number * 1024**power)
    text = f"{int(number)}.{int(number % 1 * 1000):03d}{spaces}{unit}"
    if expected < 1:
        with pytest.raises(ValueError):
            parse_bytes(text)
    else:
        assert parse_bytes(text) == expected


@given(size=st.integers(1, 2**63 - 1))
def test_a_number_of_bytes_round_trips(size: int) -> None:
    assert parse_bytes(size) == parse_bytes(str(size)) == parse_bytes(f"{size}b") == size
    assert parse({"resources": {"disk": size}}).resources.disk == size


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"timeout": 1, "timeout": 2}', "'timeout' appears twice"),
        ('{"params": {"a": 1, "a": 1}}', "'a' appears twice"),
        ('{"timeout": NaN}', "NaN is not a JSON number"),
        ('{"params": {"x": -Infinity}}', "-Infinity is not a JSON number"),
        ('{"params": {"x": 1e999}}', "too large"),
        ('{"params": {"x": [-1e999]}}', "too large"),
        ('{"params": {"x": "\\ud800"}}', "stands for no character"),
        ('{"\\udfff": 1}', "stands for no character"),
        ("[]", "expected an object, got list"),
        ('"text"', "expected an object, got str"),
        ("null", "expected an object, got NoneType"),
        ("5", "expected an object, got int"),
        ("", "not valid JSON"),
        ("{", "line 1, column 2"),
        ("{'a': 1}", "not valid JSON"),
        ('{"a": 1,}', "not valid JSON"),
        ('{"a": 1} {"b": 2}', "Extra data"),
        ("\0", "not valid JSON"),
        ("[" * 500_000, "nested too deeply"),
        ('{"params":' * 100_000, "nested too deeply"),
        ('{"params": ' + '{"a":' * 100 + "1" + "}" * 101, "nested too deeply"),
        ('{"params": {"x": ' + "9" * 5000 + "}}", "meta.json"),
    ],
    ids=lambda text: text[:30],
)
def test_what_is_no_job_is_refused_with_its_reason(text: str, words: str) -> None:
    error = refused(text)
    assert words in error.message
    assert len(error.message) < 500


def test_sixty_deep_params_are_read_and_come_back() -> None:
    nested: Any = 1
    for _ in range(60):
        nested = {"a": nested}
    job = parse({"params": {"p": nested}})
    assert job.model_dump(mode="json")["params"] == {"p": nested}


def test_every_problem_comes_at_once() -> None:
    error = refused(
        {
            "timeout": -1,
            "time_limit": 5,
            "scorr": "x",
            "container": {"cmd": "python", "env": {"1": "a", "B": 2}},
            "resources": {"memory": "x", "gpus": 1, "gpu": 2},
        }
    )
    assert isinstance(error, InvalidWorkspace)
    keys = {problem["details"]["key"] for problem in error.details["problems"]}
    assert keys == {
        "timeout", "time_limit", "scorr", "container.cmd", "container.env.1", "container.env.B", "resources.memory",
        "resources.gpus",
    }  # fmt: skip
    assert all(problem["code"] == "INVALID_META" for problem in error.details["problems"])


def test_thousands_of_problems_are_told_in_bounds() -> None:
    error = refused({f"k{number}": 1 for number in range(100_000)})
    assert len(error.details["problems"]) == 51
    assert "99950 more" in error.details["problems"][-1]["message"]


def test_a_huge_key_or_value_does_not_fill_the_screen() -> None:
    for meta in ({"x" * 500_000: 1}, {"job_id": "y" * 500_000}, {"container": {"image": ["z" * 500_000]}}):
        assert len(refused(meta).message) < 1000


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**18, 10**420)
    | st.floats(allow_nan=True)
    | st.text(max_size=6)
    | st.text(st.characters(min_codepoint=0xD7F0, max_codepoint=0xE010), max_size=2)
    | st.sampled_from(["4Gi", "none", "file://./input"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["image", "cmd", "env", "gpus", "gpu", "cpu", "memory", "disk", "shm_size"]), inner
        )
    ),
    max_leaves=10,
)
KEYS = st.sampled_from([*Job.model_fields, "time_limit", "scorer_params", "gpus"]) | st.text(max_size=4)


@given(data=JSON | st.dictionaries(KEYS, JSON, max_size=6))
def test_no_json_raises_anything_but_invalid_meta(data: Any) -> None:
    try:
        job = parse_job(json.dumps(data))
    except AutoScorerError as error:
        assert error.code is ErrorCode.INVALID_META
        assert all(c.isprintable() for c in error.message)
        json.dumps(error.to_dict(), ensure_ascii=False, allow_nan=False).encode()
        return
    # What was read can be written, and means the same when it is read again.
    again = json.dumps(job.model_dump(mode="json"), ensure_ascii=False, allow_nan=False)
    again.encode()
    assert parse_job(again) == job
    list(check_limits(job, Settings()))


@given(text=st.text(max_size=60) | st.binary(max_size=60).map(lambda b: b.decode("utf-8", "surrogateescape")))
def test_no_text_raises_anything_but_invalid_meta(text: str) -> None:
    try:
        parse_job(text)
    except AutoScorerError as error:
        assert error.code is ErrorCode.INVALID_META


def test_the_model_is_not_told_how_it_is_scored() -> None:
    seen = model_meta(parse({**FULL, "scorer_params": FULL["params"], "description": "d"}))
    assert not {"scorer", "params", "scorer_params"} & set(seen)
    assert "0.8" not in json.dumps(seen) and "classification_f1" not in json.dumps(seen)
    assert seen["resources"] == {"cpu": 2, "memory": 4 * Gi, "gpu": 0, "disk": Gi}
    assert seen["job_id"] == "job-1" and seen["timeout"] == 300


# --- the file ---------------------------------------------------------------------------------------------------


def load(folder: Path, data: bytes) -> Job:
    (folder / "meta.json").write_bytes(data)
    return load_job(Workspace(folder))


def load_refused(folder: Path) -> AutoScorerError:
    with pytest.raises(AutoScorerError) as caught:
        load_job(Workspace(folder))
    assert caught.value.code is ErrorCode.INVALID_META
    return caught.value


def test_a_bom_and_crlf_are_fine(tmp_path: Path) -> None:
    assert load(tmp_path, b'\xef\xbb\xbf{\r\n"job_id": "a"\r\n}\r\n').job_id == "a"


def test_the_folder_names_the_job_that_has_no_name(tmp_path: Path) -> None:
    folder = tmp_path / "модель 7"
    folder.mkdir()
    assert load(folder, b"{}").job_id == "модель 7"
    assert load(folder, b'{"job_id": "mine"}').job_id == "mine"


def test_a_folder_whose_name_is_no_text_still_names_a_job(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xffb"))
    folder.mkdir()
    assert load(folder, b"{}").job_id == "a\ufffdb"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfe{}", "not UTF-8"),
        (b'{"a": "\xe9"}', "byte 7"),
        (b'{"params": {"a": "' + b"x" * (2 * Mi) + b'"}}', "at most"),
        (b" " * (Mi + 1), "at most"),
    ],
    ids=["utf-16", "latin-1", "2 MB", "one byte too many"],
)
def test_a_file_that_can_not_be_read_as_text_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "meta.json").write_bytes(data)
    assert words in load_refused(tmp_path).message


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    assert "autoscorer init" in load_refused(tmp_path).message


def test_a_folder_or_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "meta.json").mkdir()
    assert "plain file" in load_refused(tmp_path).message
    (tmp_path / "meta.json").rmdir()
    secret = tmp_path / "secret.json"
    secret.write_text('{"password_of_the_operator": 1}')
    for target in (secret, Path("/dev/zero"), tmp_path / "nowhere"):
        (tmp_path / "meta.json").symlink_to(target)
        assert "password" not in load_refused(tmp_path).message
        (tmp_path / "meta.json").unlink()


def test_a_fifo_in_its_place_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "meta.json")
    program = (
        "import sys; from autoscorer.core.meta import load_job; from autoscorer.core.workspace import Workspace\n"
        "from autoscorer.core.errors import AutoScorerError\n"
        "try: load_job(Workspace(sys.argv[1]))\n"
        "except AutoScorerError as error: print(error.code)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "INVALID_META", done.stderr


# --- limits -----------------------------------------------------------------------------------------------------

SMALL = Settings(
    security=Security(
        limits=ResourceLimits(cpu=2, memory=Gi, gpu=1, disk=Gi, shm_size=Mi, timeout=60),
        defaults=ResourceDefaults(cpu=4, memory=2 * Gi, gpu=2, disk=2 * Gi, shm_size=2 * Mi),
    )
)


def test_everything_above_the_maximum_has_its_own_error() -> None:
    job = parse(
        {
            "timeout": 61,
            "network_policy": "host",
            "container": {"shm_size": "2m"},
            "resources": {"cpu": 2.5, "memory": "2g", "gpu": 10**400, "disk": "1.001g"},
        }
    )
    errors = list(check_limits(job, SMALL))
    assert {error.details["key"] for error in errors} == {
        "timeout", "network_policy", "container.shm_size", "resources.cpu", "resources.memory", "resources.gpu",
        "resources.disk",
    }  # fmt: skip
    assert all(error.code is ErrorCode.INVALID_META and len(error.message) < 200 for error in errors)
    assert "1,073,741,824" in next(e.message for e in errors if e.details["key"] == "resources.memory")
    with pytest.raises(AutoScorerError):
        effective_limits(job, SMALL)


def test_exactly_the_maximum_is_allowed() -> None:
    job = parse(
        {
            "timeout": 60,
            "container": {"shm_size": "1m"},
            "resources": {"cpu": 2, "memory": "1g", "gpu": 1, "disk": "1g"},
        }
    )
    assert list(check_limits(job, SMALL)) == []


def test_a_job_that_asks_for_nothing_is_never_refused_for_it() -> None:
    # The default of 300 s is above this operator's 60 s; the job never asked for it.
    limits = effective_limits(parse({}), SMALL)
    assert (limits.cpu, limits.memory, limits.gpu, limits.disk) == (2, Gi, 1, Gi)
    assert (limits.shm_size, limits.timeout) == (Mi, 60)


def test_which_gpus_are_wanted_is_nothing_without_a_gpu() -> None:
    kind = {"gpu_types": ["NVIDIA A100-SXM4-80GB"], "gpu_memory": "40Gi"}
    plain = Settings()
    errors = list(check_limits(parse({"resources": kind}), plain))
    assert [error.details["key"] for error in errors] == ["resources.gpu_types", "resources.gpu_memory"]
    assert all(
        error.code is ErrorCode.INVALID_META and "resources.gpu asks for none" in error.message for error in errors
    )
    # Where the operator gives every job one, it says which.
    assert list(check_limits(parse({"resources": kind}), SMALL)) == []
    limits = effective_limits(parse({"resources": {"gpu": 1, **kind}}), plain)
    assert (limits.gpu, limits.gpu_types, limits.gpu_memory) == (1, ("A100-SXM4-80GB",), 40 * Gi)


@pytest.mark.parametrize("spelling", ["timeout", "time_limit"])
def test_a_time_that_was_asked_for_is_refused_in_either_spelling(spelling: str) -> None:
    assert [e.details["key"] for e in check_limits(parse({spelling: 300}), SMALL)] == ["timeout"]


POSITIVE = st.floats(0.01, 1e6)
CPUS = st.floats(0.01, 8192)
SIZE = st.integers(1, 2**40)
MEMORY = st.integers(6 * Mi, 2**40)


@given(
    job=st.fixed_dictionaries(
        {},
        optional={
            "timeout": POSITIVE,
            "container": st.fixed_dictionaries({}, optional={"shm_size": SIZE}),
            "resources": st.fixed_dictionaries(
                {}, optional={"cpu": CPUS, "memory": MEMORY, "gpu": st.integers(0, 20), "disk": SIZE}
            ),
        },
    ),
    top=st.fixed_dictionaries(
        {
            "cpu": CPUS,
            "memory": MEMORY,
            "gpu": st.integers(0, 20),
            "disk": SIZE,
            "shm_size": SIZE,
            "timeout": POSITIVE,
        }
    ),
    usual=st.fixed_dictionaries(
        {"cpu": CPUS, "memory": MEMORY, "gpu": st.integers(0, 20), "disk": SIZE, "shm_size": SIZE}
    ),
)
def test_no_run_gets_more_than_the_operators_maximum(
    job: dict[str, Any], top: dict[str, Any], usual: dict[str, Any]
) -> None:
    settings = Settings(security=Security(limits=ResourceLimits(**top), defaults=ResourceDefaults(**usual)))
    parsed = parse(job)
    asked = {**job.get("resources", {}), **job.get("container", {})}
    if "timeout" in job:
        asked["timeout"] = job["timeout"]
    above = {key for key, value in asked.items() if value > top[key]}
    assert {e.details["key"].split(".")[-1] for e in check_limits(parsed, settings)} == above
    if above:
        return
    limits = effective_limits(parsed, settings)
    for key, most in top.items():
        assert getattr(limits, key) <= most
        assert getattr(limits, key) == asked.get(key, getattr(limits, key))
