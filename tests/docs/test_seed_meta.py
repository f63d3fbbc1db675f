"""As the first system writes it: meta.json, examples, scorers and metrics work beside our own spelling."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import autoscorer
import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.core.meta import model_meta, parse_job
from autoscorer.core.workspace import Workspace
from autoscorer.schemas.aliases import META_KEYS, METRICS, SCORERS, metric_aliases, our_scorer
from autoscorer.schemas.job import Job
from autoscorer.schemas.task import BatchRequest, SubmitRequest
from autoscorer.scorers.registry import ScorerRegistry, get_registry
from autoscorer.scorers.tables import encodings
from autoscorer.scorers.tables.aligned import Columns, load_aligned
from autoscorer.service.disclosure import Disclosure, check_request
from autoscorer.tasks.score import score_workspace
from autoscorer.tasks.validate import validate_workspace
from hypothesis import given, settings
from hypothesis import strategies as st

from ..support.examples import examples

ROOT = Path(autoscorer.__file__).parent
EXAMPLES = ROOT / "examples"
PREDICTIONS = {"classification": "pred.csv", "regression": "pred.csv", "detection": "pred.json"}


def autoscorer_command(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autoscorer", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "AUTOSCORER_HOME": str(cwd.parent / "home")},
        capture_output=True,
        text=True,
        timeout=300,
    )


def git(*arguments: str | Path, cwd: Path) -> str:
    done = subprocess.run(["git", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples as somebody finds them who has cloned the repository: what git would add, and nothing else."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = git(
        "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "examples", ".gitignore", cwd=ROOT
    )
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git("init", "-q", cwd=folder)
    git("add", "-A", cwd=folder)
    git("-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-q", "-m", "fresh", cwd=folder)
    return folder


# --- examples --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", PREDICTIONS)
def test_an_example_is_scored_on_a_fresh_checkout_and_leaves_it_clean(task: str, checkout: Path) -> None:
    done = autoscorer_command("score", f"examples/{task}", "--json", cwd=checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(done.stdout)["data"]
    assert data["error"] is None
    assert data["summary"]["pass"] is True
    assert (checkout / "examples" / task / data["artifacts"]["report"]["path"]).exists()
    assert git("status", "--porcelain", cwd=checkout) == ""


@pytest.mark.slow
@pytest.mark.parametrize("task", PREDICTIONS)
def test_the_predictions_of_an_example_are_what_its_model_makes(task: str, checkout: Path, tmp_path: Path) -> None:
    shutil.copytree(checkout / "examples" / task / "input", tmp_path / "input", ignore=shutil.ignore_patterns("gt.*"))
    (tmp_path / "output").mkdir()
    command = Job.model_validate_json((EXAMPLES / task / "meta.json").read_bytes()).container.cmd
    assert command[0] == "python"
    done = subprocess.run(
        [sys.executable, *command[1:]],
        cwd=checkout / "examples" / task,
        env={"PATH": os.environ["PATH"], "AUTOSCORER_WORKSPACE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    name = PREDICTIONS[task]
    assert (tmp_path / "output" / name).read_bytes() == (checkout / "examples" / task / "output" / name).read_bytes()


@pytest.mark.parametrize("task", PREDICTIONS)
def test_an_installation_has_the_predictions_too(task: str) -> None:
    import tomllib

    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools"]["package-data"]["autoscorer.examples"] == ["**/*"]
    tracked = git("ls-files", "--", f"examples/{task}/output", cwd=ROOT).split()
    assert tracked == [f"examples/{task}/output/{PREDICTIONS[task]}"]


@pytest.mark.slow
def test_the_demo_runs_on_copies_and_leaves_the_checkout_as_it_was(checkout: Path) -> None:
    shutil.copytree(checkout, clone := checkout.parent / "demo-checkout")
    done = autoscorer_command("demo", "--backend", "process", "--json", cwd=clone)
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout)["data"]["examples"]:
        assert Path(row["report"]).is_relative_to(clone / "autoscorer-demo")
    assert git("status", "--porcelain", cwd=clone) == ""


# --- params.threshold ------------------------------------------------------------------------------------


def labelled(folder: Path, truth: dict[str, str], predictions: dict[str, str], **meta: Any) -> Path:
    """A workspace of two tables, and its meta.json."""
    for place, name, rows in (("input", "gt.csv", truth), ("output", "pred.csv", predictions)):
        (folder / place).mkdir(parents=True, exist_ok=True)
        text = "id,label\n" + "".join(f"{key},{value}\n" for key, value in rows.items())
        (folder / place / name).write_text(text, encoding="utf-8")
    meta = {"scorer": "classification_f1", "container": {"image": "model:1"}, **meta}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return folder


@settings(max_examples=examples(60), deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.booleans(), st.floats(0, 1) | st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])),
        min_size=2,
        max_size=30,
    ).filter(lambda rows: {truth for truth, _ in rows} == {True, False} and any(0 < p < 1 for _, p in rows)),
    threshold=st.floats(0, 1) | st.sampled_from([0.25, 0.5, 0.75]),
    names=st.sampled_from([("0", "1"), ("no", "yes"), ("-1", "1"), ("False", "True"), ("negative", "positive")]),
    scorer=st.sampled_from(["classification_f1", "classification_accuracy"]),
)
def test_probabilities_are_decided_at_the_threshold_as_scikit_learn_would(
    rows: list[tuple[bool, float]], threshold: float, names: tuple[str, str], scorer: str
) -> None:
    import warnings

    from sklearn.metrics import accuracy_score, f1_score

    ids = [f"{number:03}" for number in range(len(rows))]
    with tempfile.TemporaryDirectory() as folder:
        workspace = labelled(
            Path(folder),
            {key: names[truth] for key, (truth, _) in zip(ids, rows, strict=True)},
            {key: repr(p) for key, (_, p) in zip(ids, rows, strict=True)},
            scorer=scorer,
            params={"threshold": threshold, "artifacts": False},
        )
        result = score_workspace(workspace)
    assert result.error is None, result.error
    truth, decided = [t for t, _ in rows], [p >= threshold for _, p in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert result.metrics["accuracy"] == pytest.approx(accuracy_score(truth, decided))
        if scorer == "classification_f1":
            assert result.metrics["f1_macro"] == pytest.approx(f1_score(truth, decided, average="macro"))
            assert result.metrics[f"f1/{names[1]}"] == pytest.approx(f1_score(truth, decided))
    assert any(repr(names[1]) in note and f"{threshold:g}" in note for note in result.notes)
    assert not any(name in note for note in result.disclosed.notes for name in map(repr, names))


def test_what_was_decided_stands_in_the_artifacts(tmp_path: Path) -> None:
    truth = {"a": "yes", "b": "no", "c": "yes"}
    workspace = labelled(tmp_path, truth, {"a": "0.9", "b": "0.8", "c": "0.5"}, params={"threshold": 0.5})
    result = score_workspace(workspace)
    assert result.error is None
    assert result.summary.score == pytest.approx(0.4)
    assert (tmp_path / "output/artifacts/errors.csv").read_text() == "id,truth,prediction\nb,no,yes\n"


@pytest.mark.parametrize(
    ("truth", "predictions"),
    [
        ({"a": "cat", "b": "dog"}, {"a": "cat", "b": "cat"}),
        ({"a": "0", "b": "1"}, {"a": "0", "b": "0"}),
        ({"a": "0", "b": "1", "c": "2"}, {"a": "0", "b": "2", "c": "0.5"}),
    ],
    ids=["words", "numbers", "three classes"],
)
def test_a_threshold_changes_nothing_where_labels_were_predicted_and_a_note_says_so(
    tmp_path: Path, truth: dict[str, str], predictions: dict[str, str]
) -> None:
    plain = score_workspace(labelled(tmp_path / "plain", truth, predictions))
    result = score_workspace(labelled(tmp_path / "with", truth, predictions, params={"threshold": 0.5}))
    assert result.error is None
    assert result.metrics == plain.metrics
    assert any("threshold" in note and "labels" in note for note in result.notes)


def test_which_label_a_probability_is_of_is_never_guessed(tmp_path: Path) -> None:
    truth, predictions = {"a": "ok", "b": "fraud", "c": "ok"}, {"a": "0.1", "b": "0.7", "c": "0.6"}
    result = score_workspace(labelled(tmp_path, truth, predictions, params={"threshold": 0.5}))
    assert result.error is not None
    assert result.error.code == "BAD_PARAMS"
    assert "positive_label" in result.error.message
    hidden = Disclosure(Settings(), "submit").error(result.error.model_dump())
    assert "fraud" not in json.dumps(hidden)
    asked = {"threshold": 0.5, "positive_label": "fraud"}
    result = score_workspace(labelled(tmp_path, truth, predictions, params=asked))
    assert result.error is None
    assert result.metrics["recall/fraud"] == 1
    assert result.metrics["precision/fraud"] == 0.5
    wrong = {"threshold": 0.5, "positive_label": "frauds"}
    result = score_workspace(labelled(tmp_path, truth, predictions, params=wrong))
    assert result.error is not None and result.error.code == "BAD_PARAMS"


def test_a_truth_of_one_class_is_scored_with_probabilities_too(tmp_path: Path) -> None:
    truth, predictions = {"a": "1", "b": "1"}, {"a": "0.1", "b": "0.7"}
    result = score_workspace(labelled(tmp_path, truth, predictions, params={"threshold": 0.5}))
    assert result.error is None
    assert result.metrics["accuracy"] == 0.5
    assert result.metrics["recall/1"] == 0.5


@pytest.mark.parametrize("value", ["1.5", "-0.25", "1e3"])
def test_a_number_that_is_no_probability_is_refused(tmp_path: Path, value: str) -> None:
    workspace = labelled(tmp_path, {"a": "0", "b": "1"}, {"a": "0.5", "b": value}, params={"threshold": 0.5})
    result = score_workspace(workspace)
    assert result.error is not None
    assert (result.error.code, result.error.details["file"]) == ("BAD_FORMAT", "pred.csv")
    assert value in result.error.message


@pytest.mark.parametrize(
    ("scorer", "params", "says"),
    [
        ("classification_f1", {"threshold": 1.5}, "threshold"),
        ("classification_f1", {"treshold": 0.5}, "did you mean 'threshold'"),
        ("classification_f1", {"positive_label": "1"}, "threshold"),
        ("regression_rmse", {"threshold": 0.5}, "threshold"),
    ],
)
def test_other_params_stay_errors(tmp_path: Path, scorer: str, params: dict[str, Any], says: str) -> None:
    workspace = labelled(tmp_path, {"a": "0", "b": "1"}, {"a": "0", "b": "1"}, scorer=scorer, params=params)
    result = score_workspace(workspace)
    assert result.error is not None
    assert result.error.code == "BAD_PARAMS"
    assert says in result.error.message


# --- meta.json -------------------------------------------------------------------------------------------


FIRST_SYSTEM = """{
  "job_id": "job-7", "task_type": "classification", "scorer": "classification_acc", "version": 1.0,
  "input_uri": "file:///workspace/input", "output_uri": "file:///workspace/output",
  "time_limit": 60, "scorer_params": {"threshold": 0.5}, "data": {"encoding": "gbk"},
  "container": {
    "image": "model:1", "cmd": ["python", "predict.py"], "gpus": 0, "network_policy": "restricted",
    "working_dir": "/app"
  }
}"""
OURS = """{
  "job_id": "job-7", "task_type": "classification", "scorer": "classification_accuracy", "version": "1.0",
  "timeout": 60, "params": {"threshold": 0.5}, "data": {"encoding": "gbk"}, "resources": {"gpu": 0},
  "container": {"image": "model:1", "cmd": ["python", "predict.py"], "working_dir": "/app"}
}"""


def test_the_first_systems_meta_json_is_the_same_job_as_ours() -> None:
    first, ours = parse_job(FIRST_SYSTEM), parse_job(OURS)
    same = {"input_uri": None, "output_uri": None}
    assert first.model_copy(update=same) == ours
    assert first.container.working_dir == "/app"
    assert model_meta(first)["container"]["working_dir"] == "/app"


@pytest.mark.parametrize("name", ["input", "output"])
@pytest.mark.parametrize(
    "uri", ["file:///workspace/{}", "file:///workspace/{}/", "file://./{}", "./{}", "{}", "/workspace/{}"]
)
def test_an_address_of_the_workspaces_own_folder_is_accepted(name: str, uri: str) -> None:
    address = uri.format(name)
    assert getattr(parse_job(json.dumps({f"{name}_uri": address})), f"{name}_uri") == address


@pytest.mark.parametrize(
    ("meta", "key"),
    [
        ({"input_uri": "file:///workspace/output"}, "input_uri"),
        ({"input_uri": "file:///etc"}, "input_uri"),
        ({"input_uri": "s3://bucket/input"}, "input_uri"),
        ({"container": {"working_dir": "app"}}, "container.working_dir"),
        ({"container": {"working_dir": "/app/../etc"}}, "container.working_dir"),
        ({"container": {"working_dir": "/a\0b"}}, "container.working_dir"),
        ({"container": {"working_dir": "/" + "x" * 5000}}, "container.working_dir"),
        ({"container": {"working_dirs": "/app"}}, "container.working_dirs"),
        ({"data": {"encoding": "no-such-code"}}, "data.encoding"),
        ({"data": {"encoding": "hex"}}, "data.encoding"),
        ({"data": {"encoding": "unicode_escape"}}, "data.encoding"),
        ({"data": {"encoding": "../etc"}}, "data.encoding"),
        ({"data": {"encoding": 936}}, "data.encoding"),
        ({"data": {"encodings": "gbk"}}, "data.encodings"),
        ({"data": "gbk"}, "data"),
    ],
)
def test_what_means_something_else_is_an_error_that_names_the_key(meta: dict[str, Any], key: str) -> None:
    with pytest.raises(AutoScorerError) as caught:
        parse_job(json.dumps(meta))
    assert (caught.value.code, caught.value.details["key"]) == ("INVALID_META", key)


def test_an_unknown_encoding_names_the_nearest_known_one() -> None:
    with pytest.raises(AutoScorerError, match="did you mean 'gb18030'"):
        parse_job('{"data": {"encoding": "gb18o30"}}')


# --- data.encoding ---------------------------------------------------------------------------------------


def encoded(folder: Path, encoding: str, truth: list[tuple[str, str]], predictions: list[tuple[str, str]]) -> Path:
    """A workspace of CSV files in an encoding; the csv module writes them."""
    for place, name, rows in (("input", "gt.csv", truth), ("output", "pred.csv", predictions)):
        (folder / place).mkdir(parents=True, exist_ok=True)
        with (folder / place / name).open("w", newline="", encoding=encoding) as file:
            csv.writer(file).writerows([("id", "label"), *rows])
    meta = {"scorer": "classification_accuracy", "data": {"encoding": encoding}, "container": {"image": "m:1"}}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return folder


CHARACTERS = {
    "gbk": "猫狗鱼的α、，。\"'a1 \u3000\u2014",
    "gb18030": "猫狗鱼的αß😀\u2028\"'a1 \u3000é",
    "big5": "貓狗魚的α，。\"'a1 ",
    "shift_jis": "ねこ猫犬ﾈｺ\"'a1 ",
    "iso2022_jp": "ねこ猫犬\"'a1 ",
    "euc_kr": "고양이개\"'a1 ",
    "latin-1": "äöüß\x85\"'a1 ",
    "cp1252": "äöü€ß“\"'a1 ",
    "utf-16": "猫é😀\"'a1 ",
    "utf-16-be": "猫é😀\"'a1 ",
    "utf-32": "猫é😀\"'a1 ",
    "utf-7": "猫é+-\"'a1 ",
    "utf-8-sig": "猫é😀\"'a1 ",
    "UTF-8": "猫é😀\"'a1 ",
}


@settings(max_examples=examples(80), deadline=None)
@given(data=st.data(), encoding=st.sampled_from(sorted(CHARACTERS)))
def test_tables_in_another_encoding_are_read_exactly(data: st.DataObject, encoding: str) -> None:
    text = st.text(st.sampled_from(CHARACTERS[encoding]), min_size=1, max_size=6)
    pairs = data.draw(st.dictionaries(text, st.tuples(text, text), min_size=1, max_size=12))
    # What the encoding itself can't tell apart would be another text already when it was written.
    pairs = {
        key: value
        for key, value in pairs.items()
        if all(t.encode(encoding).decode(encoding) == t for t in (key, *value))
    }
    if not pairs:
        return
    chunk = data.draw(st.sampled_from([1, 2, 3, 7, 1 << 16]))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(encodings, "CHUNK_BYTES", chunk)
        rows = [(key, truth) for key, (truth, _) in pairs.items()]
        found = [(key, prediction) for key, (_, prediction) in reversed(pairs.items())]
        space = Workspace(encoded(Path(folder), encoding, rows, found))
        table = load_aligned(space, Columns(), "text", encodings=(encoding, encoding))
        assert {k: (t, p) for k, t, p in zip(table.ids, table.truth, table.prediction, strict=True)} == pairs
        for digest, path in (
            (table.ground_truth_sha256, space.ground_truth()),
            (table.predictions_sha256, space.predictions()),
        ):
            assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
        frame = table.frame()
        assert dict(zip(frame["id"], frame["truth"], strict=True)) == dict(rows)


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
def test_a_workspace_in_gbk_is_validated_and_scored(tmp_path: Path, suffix: str) -> None:
    rows = [("一", "猫"), ("二", "狗"), ("三", "猫")]
    wrong = [("三", "狗"), ("二", "狗"), ("一", "猫")]
    workspace = encoded(tmp_path, "gbk", rows, wrong)
    if suffix != "csv":
        for place, name, table in (("input", "gt", rows), ("output", "pred", wrong)):
            (tmp_path / place / f"{name}.csv").unlink()
            records = [json.dumps({"id": key, "label": label}, ensure_ascii=False) for key, label in table]
            text = "[" + ",".join(records) + "]" if suffix == "json" else "\n".join(records)
            (tmp_path / place / f"{name}.{suffix}").write_text(text, encoding="gbk")
    assert validate_workspace(workspace, settings=Settings())["scorer"] == "classification_accuracy"
    result = score_workspace(workspace)
    assert result.error is None, result.error
    assert result.summary.score == pytest.approx(2 / 3)
    assert result.metrics["recall/猫"] == 0.5
    assert result.versioning.predictions_sha256 == sha256_of(tmp_path / "output" / f"pred.{suffix}")
    # What we write is UTF-8.
    assert (tmp_path / "output/artifacts/errors.csv").read_text(encoding="utf-8") == "id,truth,prediction\n三,猫,狗\n"


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_boxes_in_another_encoding_are_read_too(tmp_path: Path) -> None:
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}
    truth = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "猫"}], "annotations": [{"id": 1, **box}]}
    for place, name, content in (("input", "gt", truth), ("output", "pred", [{**box, "score": 0.5}])):
        (tmp_path / place).mkdir()
        (tmp_path / place / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="gbk")
    meta = {"scorer": "detection_map", "data": {"encoding": "gbk"}, "container": {"image": "m:1"}}
    (tmp_path / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    validate_workspace(tmp_path, settings=Settings())
    result = score_workspace(tmp_path)
    assert result.error is None, result.error
    assert result.metrics["ap/猫"] == 1
    assert result.versioning.predictions_sha256 == sha256_of(tmp_path / "output" / "pred.json")


def test_the_ground_truth_and_the_predictions_may_be_in_two_encodings(tmp_path: Path) -> None:
    workspace = encoded(tmp_path, "gbk", [("一", "猫")], [])
    (tmp_path / "output" / "pred.csv").write_text("id,label\n一,猫\n", encoding="utf-16")
    meta = {"scorer": "classification_f1", "data": {"input_encoding": "gbk", "output_encoding": "utf-16"}}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    result = score_workspace(workspace)
    assert result.error is None, result.error
    assert result.metrics["f1/猫"] == 1


def test_a_table_without_a_header_is_not_silently_taken_for_one_with_it(tmp_path: Path) -> None:
    with pytest.raises(AutoScorerError, match="has_header"):
        parse_job('{"data": {"has_header": false}}')


def test_numbers_in_utf_16_are_read(tmp_path: Path) -> None:
    workspace = encoded(tmp_path, "utf-16", [("a", "1.5"), ("b", "2")], [("b", "2.5"), ("a", "1")])
    (tmp_path / "meta.json").write_text('{"scorer": "regression_rmse", "data": {"encoding": "utf-16"}}')
    result = score_workspace(workspace)
    assert result.error is None, result.error
    assert result.summary.score == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"id,label\na,\xb0\xa1\nb,\xff\xff\n", 3), (b"id,label\r\na,x\r\nb,y\r\nc,\xb0", 4)],
    ids=["no character", "cut in two"],
)
def test_bytes_that_the_encoding_does_not_have_are_an_error_with_the_line(
    tmp_path: Path, content: bytes, line: int
) -> None:
    workspace = encoded(tmp_path, "gbk", [("a", "x"), ("b", "y")], [])
    (tmp_path / "output" / "pred.csv").write_bytes(content)
    result = score_workspace(workspace)
    assert result.error is not None
    assert result.error.code == "BAD_FORMAT"
    details = {"file": "pred.csv", "line": line, "workspace": workspace.name, "logs_path": None}
    assert result.error.details == details
    assert "gbk" in result.error.message


def test_a_table_that_is_not_utf_8_is_told_how_to_name_its_encoding(tmp_path: Path) -> None:
    workspace = encoded(tmp_path, "gbk", [("a", "狗")], [("a", "狗")])
    (tmp_path / "meta.json").write_text('{"scorer": "classification_accuracy"}')
    result = score_workspace(workspace)
    assert result.error is not None
    assert result.error.code == "BAD_FORMAT"
    assert "data.encoding" in result.error.message


@pytest.mark.slow
def test_a_big_table_in_another_encoding_takes_no_more_memory(tmp_path: Path) -> None:
    rows = 400_000
    for place, name in (("input", "gt"), ("output", "pred")):
        (tmp_path / place).mkdir()
        with (tmp_path / place / f"{name}.csv").open("w", encoding="gbk") as file:
            file.write("id,label,备注\n")
            for start in range(0, rows, 1000):
                file.write("".join(f"样本{i:07},猫{i % 10},{'的' * 40}\n" for i in range(start, start + 1000)))
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.csv"))
    assert size > 70 << 20
    code = f"""
import re
from pathlib import Path
from autoscorer.scorers.registry import get_registry
scorer = get_registry().get("classification_accuracy").create()
scorer.encodings = ("gbk", "gbk")
assert scorer.score(Path({str(tmp_path)!r}), {{"artifacts": False}}).summary.score == 1
print(int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    # As for UTF-8: what is kept is the ids and the codes, not the bytes of the files.
    assert int(done.stdout) < size + (120 << 20)


# --- scorers and metrics ---------------------------------------------------------------------------------


def test_the_first_systems_scorer_id_is_ours_wherever_it_comes_in(tmp_path: Path) -> None:
    truth = {"a": "0", "b": "1"}
    workspace = labelled(tmp_path / "named", truth, truth, scorer="classification_acc")
    assert validate_workspace(workspace, settings=Settings())["scorer"] == "classification_accuracy"
    result = score_workspace(workspace)
    assert result.error is None, result.error
    assert result.versioning.scorer == "classification_accuracy"
    # Asked for instead of meta.json's, which is the same scorer: so its params count.
    workspace = labelled(tmp_path / "asked", truth, truth, scorer="classification_accuracy", params={"threshold": 0.5})
    result = score_workspace(workspace, scorer="classification_acc")
    assert result.error is None, result.error
    assert result.versioning.scorer == "classification_accuracy"
    assert result.versioning.params == {"threshold": 0.5}
    assert get_registry().get("classification_acc") is get_registry().get("classification_accuracy")
    assert "classification_acc" not in get_registry().ids()
    for request in (SubmitRequest, BatchRequest):
        place = {"workspaces": ["a"]} if request is BatchRequest else {"workspace": "a"}
        assert request(action="score", scorer="classification_acc", **place).scorer == "classification_accuracy"


def test_a_submit_token_may_name_the_workspaces_scorer_as_the_first_system_does() -> None:
    check_request("submit", scorer=our_scorer("classification_acc"), of_workspace="classification_accuracy", params={})


def test_an_alias_of_a_built_in_can_not_be_taken_by_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from autoscorer.scorers.base_csv import BaseCSVScorer\n"
        "from autoscorer.scorers.registry import register\n"
        '@register("classification_acc")\n'
        "class Mine(BaseCSVScorer):\n"
        '    name, version = "classification_acc", "1.0.0"\n'
    )
    with pytest.raises(AutoScorerError, match="classification_accuracy") as caught:
        ScorerRegistry(entry_points=False).load_file(file)
    assert caught.value.code == "SCORER_LOAD_ERROR"


@pytest.mark.slow
def test_the_command_line_knows_the_scorer_by_both_names(tmp_path: Path) -> None:
    truth = {"a": "0", "b": "1"}
    labelled(tmp_path / "job", truth, truth, scorer="regression_rmse")
    done = autoscorer_command("score", "job", "--scorer", "classification_acc", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["data"]["versioning"]["scorer"] == "classification_accuracy"
    done = autoscorer_command("scorers", "show", "classification_acc", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["data"]["id"] == "classification_accuracy"


def test_flat_metric_names_are_told_as_aliases_and_no_number_stands_there_twice(tmp_path: Path) -> None:
    numbers = {"a": "1", "b": "2", "c": "4"}
    result = score_workspace(labelled(tmp_path / "r", numbers, numbers, scorer="regression_rmse"))
    assert result.metric_aliases == {"r_squared": "r2"}
    assert "r_squared" not in result.metrics
    truth, found = {"a": "cat", "b": "dog", "c": "cat"}, {"a": "cat", "b": "dog", "c": "dog"}
    result = score_workspace(labelled(tmp_path / "f", truth, found))
    assert result.metric_aliases == {"f1_cat": "f1/cat", "f1_dog": "f1/dog"}
    result = score_workspace(labelled(tmp_path / "a", truth, found, scorer="classification_acc"))
    assert result.metric_aliases == {"acc_cat": "recall/cat", "acc_dog": "recall/dog"}
    # As the first system computed it: the share of a class's rows that are right.
    assert result.metrics[result.metric_aliases["acc_cat"]] == 0.5
    shown = Disclosure(Settings(), "submit").result(result.to_dict())
    assert shown["metric_aliases"] == {}
    assert "cat" not in json.dumps(shown["metrics"])


def test_an_alias_is_never_the_name_of_a_metric() -> None:
    metrics = ["f1_macro", "f1_micro", "f1/macro", "f1/cat", "recall/cat"]
    assert metric_aliases("classification_f1", metrics) == {"f1_cat": "f1/cat"}
    assert metric_aliases("mine", metrics) == {}


def test_every_alias_stands_in_the_docs() -> None:
    page = (ROOT / "docs/compatibility.md").read_text(encoding="utf-8")
    words = set(re.findall(r"`([^`]+)`", page))
    ours = {alias for named in METRICS.values() for pair in named.items() for alias in pair}
    for alias in {*META_KEYS, *META_KEYS.values(), *SCORERS, *SCORERS.values(), *ours}:
        assert alias.replace("*", "LABEL") in words, alias
