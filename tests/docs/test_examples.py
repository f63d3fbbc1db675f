"""Every example runs without its ground truth, reaches the score its README names, and can be trained again."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import autoscorer
import numpy as np
import pytest
from autoscorer.core.workspace import Workspace
from autoscorer.schemas.job import Job

EXAMPLES = Path(autoscorer.__file__).parent / "examples"
TASKS = ("classification", "regression", "detection")
# What is not part of the image's build context.
NOT_CODE = ("input", "output", "logs", "meta.json", ".autoscorer", "__pycache__")


def stage(task: str, folder: Path) -> tuple[Path, Path]:
    """Lay out what the model sees, as a container would: its code in one place, the workspace in another."""
    code, workspace = folder / "code", folder / "workspace"
    shutil.copytree(EXAMPLES / task, code, ignore=shutil.ignore_patterns(*NOT_CODE))
    shutil.copytree(EXAMPLES / task / "input", workspace / "input", ignore=shutil.ignore_patterns("gt.*"))
    (workspace / "output").mkdir()
    return code, workspace


def run_model(task: str, code: Path, workspace: Path) -> subprocess.CompletedProcess[str]:
    job = Job.model_validate_json((EXAMPLES / task / "meta.json").read_bytes())
    program, *arguments = job.container.cmd
    assert program == "python"
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=code,
        env={"PATH": os.environ["PATH"], "AUTOSCORER_WORKSPACE": str(workspace), "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def table(path: Path) -> dict[str, str]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "label"]
    found = {row["id"]: row["label"] for row in rows}
    assert len(found) == len(rows)
    return found


def oracle_tables(ground_truth: Path, predictions: Path) -> tuple[list[str], list[str]]:
    truth, found = table(ground_truth), table(predictions)
    assert truth.keys() == found.keys()
    return list(truth.values()), [found[name] for name in truth]


def oracle(task: str, workspace: Path) -> dict[str, float]:
    """The scores by scikit-learn and pycocotools, under the names the README uses."""
    truth = EXAMPLES / task / "input"
    if task == "detection":
        return coco_scores(truth / "gt.json", workspace / "output" / "pred.json")
    from sklearn.metrics import accuracy_score, f1_score, r2_score, root_mean_squared_error

    expected, found = oracle_tables(truth / "gt.csv", workspace / "output" / "pred.csv")
    if task == "classification":
        return {"macro F1": f1_score(expected, found, average="macro"), "accuracy": accuracy_score(expected, found)}
    numbers = [float(v) for v in expected], [float(v) for v in found]
    return {"RMSE": root_mean_squared_error(*numbers), "R²": r2_score(*numbers)}


def coco_scores(ground_truth: Path, predictions: Path) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(ground_truth))
    found = truth.loadRes(str(predictions))

    def average_precision(*categories: int) -> Any:
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.catIds = categories or evaluation.params.catIds
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation.stats

    return {
        "AP": average_precision()[0],
        "faces": average_precision(1)[0],
        "coins": average_precision(2)[0],
        "AP at IoU 0.5": average_precision()[1],
    }


def documented(task: str) -> dict[str, float]:
    """The numbers of the README's line of expectations, each with the name before it."""
    text = re.search(r"\*\*Expected\*\*: (.+)\.\n", (EXAMPLES / task / "README.md").read_text(encoding="utf-8"))
    assert text is not None
    without_asides = re.sub(r"\(the [^)]*\)", "", text[1])
    pairs = re.findall(r"(AP at IoU 0\.5|[A-Za-z²][A-Za-z0-9² ]*?) (\d+\.\d+)", without_asides)
    return {name: float(number) for name, number in pairs}


@pytest.fixture(
    scope="module",  # the model of the third takes its time
    params=["classification", "regression", pytest.param("detection", marks=pytest.mark.slow)],
)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, str]:
    """An example that has run as in its image: its task, its workspace, and what the model printed."""
    code, workspace = stage(request.param, tmp_path_factory.mktemp(request.param))
    text = (code / "Dockerfile").read_text(encoding="utf-8")
    assert text.startswith("ARG BASE_IMAGE=python:3.12-slim\nFROM ${BASE_IMAGE}\n")
    copied = re.findall(r"^COPY (.+) \./$", text, re.MULTILINE)[0].split()
    for path in code.iterdir():
        if path.name not in copied:
            path.unlink()
    done = run_model(request.param, code, workspace)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return request.param, workspace, done.stdout


def test_what_the_image_gets_reaches_the_documented_score_without_the_ground_truth(
    ran: tuple[str, Path, str],
) -> None:
    task, workspace, _ = ran
    assert not list(workspace.rglob("gt.*"))
    expected = documented(task)
    scores = oracle(task, workspace)
    assert scores.keys() == expected.keys()
    assert scores == pytest.approx(expected, abs=0.006)


def test_the_documented_score_passes(ran: tuple[str, Path, str]) -> None:
    task, workspace, _ = ran
    job = Job.model_validate_json((EXAMPLES / task / "meta.json").read_bytes())
    main = next(iter(oracle(task, workspace).values()))
    threshold = job.params["pass_threshold"]
    assert main <= threshold if task == "regression" else main >= threshold


def test_the_model_writes_its_predictions_and_nothing_else(ran: tuple[str, Path, str]) -> None:
    task, workspace, _ = ran
    suffix = "json" if task == "detection" else "csv"
    assert [path.name for path in (workspace / "output").iterdir()] == [f"pred.{suffix}"]


@pytest.mark.parametrize("task", TASKS)
def test_the_workspace_is_complete(task: str) -> None:
    root = EXAMPLES / task
    job = Job.model_validate_json((root / "meta.json").read_bytes())
    assert (job.task_type, job.container.image) == (task, None)
    assert job.scorer == {
        "classification": "classification_f1", "regression": "regression_rmse", "detection": "detection_map",
    }[task]  # fmt: skip
    assert job.resources.cpu and job.resources.memory and job.resources.disk
    assert job.timeout < 300
    assert Workspace(root).ground_truth().exists()
    assert {"README.md", "Dockerfile", "train.py", "predict.py"} <= {path.name for path in root.iterdir()}


@pytest.mark.parametrize("task", TASKS)
def test_the_model_is_data_and_its_code_needs_numpy_alone(task: str) -> None:
    root = EXAMPLES / task
    models = [*root.glob("model.*")]
    assert len(models) == 1
    if models[0].suffix == ".npz":
        with np.load(models[0], allow_pickle=False) as arrays:
            assert all(arrays[name].dtype.kind in "fiubU" for name in arrays)
    local = {path.stem for path in root.glob("*.py")}
    allowed = set(sys.stdlib_module_names) | local | {"numpy"}
    for path in root.glob("*.py"):
        if path.name != "train.py":
            source = path.read_text(encoding="utf-8")
            imported = set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE))
            assert imported <= allowed
            assert "pickle.load" not in source


@pytest.mark.parametrize("task", TASKS)
def test_nothing_in_what_the_model_reads_gives_the_truth_away(task: str) -> None:
    root = EXAMPLES / task / "input"
    truth = next(root.glob("gt.*"))
    for path in (root / "data").iterdir():
        assert path.read_bytes() != truth.read_bytes()
        if path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                assert "label" not in (reader.fieldnames or [])
                assert [row["id"] for row in reader] == list(table(truth))
        if path.suffix == ".json":
            assert "annotations" not in json.loads(path.read_text(encoding="utf-8"))


def test_the_boxes_of_the_ground_truth_lie_in_their_pictures() -> None:
    from skimage import io

    root = EXAMPLES / "detection" / "input"
    truth = json.loads((root / "gt.json").read_text(encoding="utf-8"))
    sizes = {image["id"]: (image["width"], image["height"]) for image in truth["images"]}
    for image in truth["images"]:
        assert io.imread(root / "data" / image["file_name"]).shape == (image["height"], image["width"])
    for annotation in truth["annotations"]:
        left, top, width, height = annotation["bbox"]
        assert annotation["area"] == width * height
        assert min(left, top) >= 0
        assert left + width <= sizes[annotation["image_id"]][0]
        assert top + height <= sizes[annotation["image_id"]][1]


def test_the_examples_own_png_reader_agrees_with_scikit_image(tmp_path: Path) -> None:
    from skimage import io

    hog = load_module("detection", "hog")
    rng = np.random.default_rng(3)
    smooth = np.add.outer(np.arange(40), np.arange(53)) * 2 % 256
    pictures = [io.imread(path) for path in (EXAMPLES / "detection" / "input" / "data").glob("*.png")]
    for picture in (*pictures, rng.integers(0, 256, (31, 17)), smooth, np.zeros((1, 1))):
        path = tmp_path / "picture.png"
        io.imsave(path, picture.astype(np.uint8), check_contrast=False)
        np.testing.assert_array_equal(np.round(hog.read_png(path) * 255), picture)


@pytest.mark.parametrize("scale", [0.4, 0.45, 0.5, 0.55])
def test_the_examples_own_cascade_finds_what_scikit_image_finds(scale: float) -> None:
    from skimage import data
    from skimage.feature import Cascade

    hog, cascade = load_module("detection", "hog"), load_module("detection", "cascade")
    picture = hog.read_png(EXAMPLES / "detection" / "input" / "data" / "astronaut.png")
    with np.load(EXAMPLES / "detection" / "model.npz", allow_pickle=False) as arrays:
        ours = cascade.Cascade(**{n.split(".")[1]: arrays[n] for n in arrays if n.startswith("face.")})
    side = round(len(picture) * scale)
    level = hog.resize(picture, side, side)
    rows, columns, strength = ours.windows(level)
    # The same whole grey levels, and windows of 24 pixels alone. scikit-image tells the middle of each group only.
    reference = Cascade(data.lbp_frontal_face_cascade_filename()).detect_multi_scale(
        img=np.round(level * 255) / 256, scale_factor=1.2, step_ratio=1, min_size=(24, 24), max_size=(25, 25),
        min_neighbor_number=1,
    )  # fmt: skip
    groups = np.array([(found["r"], found["c"]) for found in reference])
    distances = np.hypot(rows[:, None] - groups[:, 0], columns[:, None] - groups[:, 1])
    assert (strength >= 0).all()
    assert distances.min(axis=0).max() <= 2, "a group without a window of ours"
    assert distances.min(axis=1).max() <= 4, "a window of ours in no group"


def load_module(task: str, name: str) -> Any:
    """Import a module of an example, which finds its neighbours as it does when it runs."""
    sys.path.insert(0, str(EXAMPLES / task))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(EXAMPLES / task))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_training_again_gives_the_same_data_and_as_good_a_model(task: str, tmp_path: Path) -> None:
    code, workspace = stage(task, tmp_path)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    # One thread: many are no faster on matrices as small as these, and far slower on a busy machine.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "train.py", fresh], cwd=code, env=environment, check=True, capture_output=True, timeout=300
    )
    for path in (EXAMPLES / task / "input").rglob("*"):
        again = fresh / path.relative_to(EXAMPLES / task)
        if path.suffix == ".png":  # another version may pack the same pixels otherwise
            from skimage import io

            np.testing.assert_array_equal(io.imread(again), io.imread(path))
        elif path.is_file():
            assert again.read_bytes() == path.read_bytes()
    model = next(fresh.glob("model.*"))
    shutil.copy(model, code / model.name)
    assert run_model(task, code, workspace).returncode == 0
    # Another machine's linear algebra may tip a close call; more than that would be another model.
    assert next(iter(oracle(task, workspace).values())) == pytest.approx(
        next(iter(documented(task).values())), rel=0.02
    )
