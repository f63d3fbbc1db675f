"""Whoever may not see the ground truth tries to read it: predictions are chosen to make answers tell of rows.

The attacker of each test has a token of the role submit. It knows its predictions, so it knows which rows are counted
together, and it takes everything that it can fetch from the real application.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autoscorer.core.config import Settings
from autoscorer.flows.batches.outcome import outcome_of, summarize
from autoscorer.schemas.task import TaskState, TaskView
from autoscorer.tasks.score import score_workspace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from ..support.examples import examples
from ..support.installation import Installation
from ..support.local_api import LocalApi, serve_locally
from ..support.prefect_server import eventually

pytestmark = pytest.mark.slow  # all together; each is quick

SUBMIT, ADMIN = ({"Authorization": f"Bearer {token}"} for token in ("sss-token", "aaa-token"))
NAMES = (
    "confusion_matrix.json", "confusion_matrix.svg", "per_class.csv", "per_class.svg", "errors.csv", "report.html",
    "samples.json.gz", "shared/samples.json.gz",
    "residuals.svg", "pr_curves.json", "pr_curves.svg", "shared/confusion_matrix.json", "shared/per_class.csv",
    "shared/residuals.svg", "output/result.json", "output/history", "input/gt.csv", "input/gt.json",
)  # fmt: skip
FEW = settings(max_examples=examples(12), deadline=None, suppress_health_check=list(HealthCheck))


class Attacker:
    """Everything that a token of the role submit can fetch of one scoring."""

    def __init__(self, api: LocalApi, root: Path) -> None:
        self.api, self.root = api, root

    def score(
        self,
        truth: str,
        predictions: str,
        scorer: str,
        *,
        name: str = "w",
        suffix: str = ".csv",
        trial: bool = True,
    ) -> dict[str, Any]:
        """Have a workspace scored, put its tasks where the routes show them, and fetch."""
        folder = self.root / name
        for part in ("input", "output"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "meta.json").write_text(json.dumps({"task_type": "any", "scorer": scorer}))
        (folder / "input" / f"gt{suffix}").write_text(truth)
        (folder / "output" / f"pred{suffix}").write_text(predictions)
        result = score_workspace(folder, settings=self.api.settings)
        state = TaskState.FAILED if result.error else TaskState.COMPLETED
        common = {"created_at": "2026-11-28T00:00:00Z", "action": "score", "workspace": name, "state": state}
        whole = result.to_dict()
        self.api.tasks.tasks = {
            "one": TaskView(id="one", result=whole, error=result.error, **common),
            # What Prefect says of a run whose process did not live to say it.
            "two": TaskView(id="two", reason=result.error and f"{result.error.code}: {result.error.message}", **common),
            "all": TaskView(
                id="all",
                result=summarize("score", [outcome_of(folder, result)], seconds=1.0),
                **{**common, "action": "batch", "workspace": None, "workspaces": [name]},
            ),
        }
        return self.fetch(name, scorer, trial=trial)

    def fetch(self, name: str, scorer: str, *, trial: bool) -> dict[str, Any]:
        """By what it was asked for: every answer to the token."""
        get = {
            path: self.api.client.get(path, headers=SUBMIT)
            for path in (
                "/tasks", "/tasks/one", "/tasks/two", "/tasks/all", "/tasks/one/logs", "/batch/all",
                "/tasks/one/samples", "/tasks/one/samples?verdict=right", "/tasks/one/labels", "/compare?a=one&b=one",
                "/batch/all/leaderboard",
                "/batch/all/leaderboard?format=csv", "/workspaces", f"/workspaces/{name}", f"/result?workspace={name}",
                f"/logs?workspace={name}", "/metrics", "/scorers", f"/scorers/{scorer}",
                *(f"/artifacts/{artifact}?workspace={name}" for artifact in NAMES),
            )
        }  # fmt: skip
        body = {"scorer": scorer, "workspace": name}
        if not trial:
            return get
        return get | {"/scorers/test": self.api.client.post("/scorers/test", json=body, headers=SUBMIT)}


@pytest.fixture(scope="module")
def attacker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacker]:
    base = tmp_path_factory.mktemp("attack")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOSCORER_HOME", str(base / "home"))
        installed = Settings(
            workspace_roots=(base / "root",),
            home=base / "home",
            api_tokens=SecretStr("submit:sss-token,admin:aaa-token"),
            api={"rate_limit": 10_000, "rate_burst": 100_000},
        )
        (base / "root").mkdir()
        with serve_locally(installed, patch) as api:
            yield Attacker(api, base / "root")


def table(ids: list[str], values: Any) -> str:
    return "id,label\n" + "".join(f"{key},{value}\n" for key, value in zip(ids, values, strict=True))


def texts(fetched: dict[str, Any]) -> dict[str, str]:
    """Answers as text, apart from what tells of the installation's scorers alone."""
    return {path: answer.text for path, answer in fetched.items() if not re.match("/scorers(?!/test)|/metrics", path)}


def numbers(value: Any) -> Iterator[float]:
    """Every number of some JSON, but of times and sizes."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in ("timing", "seconds", "size", "resources", "meta", "created_at"):
                yield from numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)


def bits(fetched: dict[str, Any]) -> float:
    """A bound on what the numbers of the Result and the matrix can tell: digits of each different one."""
    found = set(numbers(fetched["/result?workspace=w"].json()["data"]))
    matrix = fetched["/artifacts/confusion_matrix.json?workspace=w"].json()
    if "matrix" in matrix:
        cells = np.array(matrix["matrix"])
        return len(found) * 18 + float(np.log2(cells // 10 + 2).sum())
    return len(found) * 18 + 40 * len(matrix["cells"])


def certain(fetched: dict[str, Any], groups: dict[str, list[int]]) -> dict[int, str]:
    """Rows whose truth the matrix tells: those of a group all of which have one label, by what is shown."""
    matrix = fetched["/artifacts/confusion_matrix.json?workspace=w"].json()
    labels = matrix["labels"]
    if matrix["format"] == "cells":
        cells = [(labels[t], labels[p], n) for t, p, n in matrix["cells"]]
    else:
        cells = [
            (labels[t], labels[p], n)
            for t, line in enumerate(matrix["matrix"])
            for p, n in enumerate(line)
            if n and labels[t] is not None
        ]
    known = {}
    for truth, predicted, count in cells:
        rows = groups.get(predicted, []) if predicted is not None else others(groups, labels)
        if count >= len(rows):
            known |= dict.fromkeys(rows, truth)
    return known


def others(groups: dict[str, list[int]], labels: list[Any]) -> list[int]:
    return [row for label, rows in groups.items() if label not in labels for row in rows]


def grouped(predictions: list[str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for row, label in enumerate(predictions):
        groups.setdefault(label, []).append(row)
    return groups


# --- as it was done ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_label_of_its_own_for_each_row_tells_no_row(attacker: Attacker) -> None:
    rng = np.random.default_rng(7)
    ids = [f"id-{i:05d}" for i in range(20_000)]
    truth = [f"class-{i}" for i in rng.integers(0, 10, len(ids)).tolist()]
    predictions = [f"own-{i:05d}" for i in range(len(ids))]
    fetched = attacker.score(table(ids, truth), table(ids, predictions), "classification_f1")
    assert certain(fetched, grouped(predictions)) == {}
    for path, text in texts(fetched).items():
        assert "own-" not in text, path
        assert "id-0" not in text, path
    # All true labels have 66,000 bits.
    assert bits(fetched) < 2_000


@pytest.mark.slow
def test_true_numbers_taken_for_labels_tell_no_number(attacker: Attacker) -> None:
    rng = np.random.default_rng(8)
    ids = [f"id-{i:03d}" for i in range(500)]
    truth = [f"{value:.9f}" for value in rng.normal(150, 70, len(ids))]
    predictions = [f"{1e6 + i:.1f}" for i in range(len(ids))]
    for scorer in ("classification_f1", "classification_accuracy", "regression_rmse"):
        fetched = attacker.score(table(ids, truth), table(ids, predictions), scorer)
        for path, text in texts(fetched).items():
            assert not [value for value in truth if value in text], (scorer, path)
    svg = fetched["/artifacts/residuals.svg?workspace=w"].text
    assert 'class="al pt"' not in svg and not re.search(r'class="b\d+" d=', svg)


# --- classification ---------------------------------------------------------------------------------------


@FEW
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(20, 400),
    classes=st.integers(1, 6),
    rare=st.integers(0, 8),
    way=st.sampled_from(["own", "guess", "groups", "one against all", "permuted", "right"]),
    group=st.integers(1, 40),
    scorer=st.sampled_from(["classification_f1", "classification_accuracy"]),
)
def test_whatever_labels_are_predicted_no_row_follows_from_what_is_shown(
    attacker: Attacker, seed: int, rows: int, classes: int, rare: int, way: str, group: int, scorer: str
) -> None:
    rng = np.random.default_rng(seed)
    ids = [f"id-{i:04d}" for i in range(rows)]
    common = [f"common-{i}" for i in range(classes)]
    truth = [common[i] for i in rng.integers(0, classes, rows).tolist()]
    for i in range(min(rare, rows)):
        truth[i] = f"rare-{i // 2}"
    match way:
        case "own":
            predictions = [f"own-{i}" for i in range(rows)]
        case "guess":
            predictions = [common[i] for i in rng.integers(0, classes, rows).tolist()]
        case "groups":  # as many groups as there are labels, of chosen rows; the rest is a label of its own
            predictions = [common[i // group] if i // group < classes else "own-rest" for i in range(rows)]
        case "one against all":
            predictions = [common[0], *["own-rest"] * (rows - 1)]
        case "permuted":
            predictions = [f"common-{(int(label[-1]) + 1) % classes}" if label in common else "x" for label in truth]
        case _:
            predictions = list(truth)
    fetched = attacker.score(table(ids, truth), table(ids, predictions), scorer, trial=False)
    assert certain(fetched, grouped(predictions)) == {}
    small = [label for label, count in Counter(truth).items() if count < 10]
    for path, text in texts(fetched).items():
        assert "own-" not in text and "id-0" not in text, path
        assert not [label for label in small if f'"{label}"' in text or f"/{label}" in text or f">{label}<" in text], (
            path
        )
    cells = np.array(fetched["/artifacts/confusion_matrix.json?workspace=w"].json()["matrix"])
    assert (cells % 10 == 0).all()
    # In each group of chosen rows, as many as the minimum stay open, whatever is shown.
    labels = fetched["/artifacts/confusion_matrix.json?workspace=w"].json()["labels"]
    sizes = Counter(label if label in labels else None for label in predictions)
    for column, label in enumerate(labels):
        assert cells[:, column].sum() <= max(sizes[label] - 10, 0)
    data = fetched["/result?workspace=w"].json()["data"]
    supports = Counter(truth)
    for name in data["metrics"]:
        _, slash, label = name.partition("/")
        assert not slash or supports[label] >= 100
    for value in {*numbers(data["metrics"]), *numbers(data["intervals"])}:
        assert value == float(f"{value:.4g}")


# --- regression -------------------------------------------------------------------------------------------


@FEW
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(12, 300),
    way=st.sampled_from(["one far out", "half", "constant", "powers", "own", "near"]),
    size=st.floats(1, 1e12),
)
def test_whatever_numbers_are_predicted_no_true_number_follows_from_what_is_shown(
    attacker: Attacker, seed: int, rows: int, way: str, size: float
) -> None:
    rng = np.random.default_rng(seed)
    ids = [f"id-{i:04d}" for i in range(rows)]
    truth = rng.normal(150, 70, rows)
    match way:
        case "one far out":  # the largest error is then this row's
            predicted = np.zeros(rows)
            predicted[0] = size * 1e6
        case "half":  # the middle error is then this row's
            predicted = np.where(np.arange(rows) < rows // 2, 0.0, 1e9 * size)
            predicted[rows // 2] = 1e6
        case "constant":
            predicted = np.full(rows, size)
        case "powers":
            predicted = 10.0 ** (np.arange(rows) % 100)
        case "own":
            predicted = size * np.arange(rows)
        case _:
            predicted = truth + rng.normal(0, 1, rows)
    texts_of_truth = [f"{value:.9f}" for value in truth]
    fetched = attacker.score(
        table(ids, texts_of_truth),
        table(ids, [repr(float(value)) for value in predicted]),
        "regression_rmse",
        trial=False,
    )
    for path, text in texts(fetched).items():
        assert "id-0" not in text, path
        assert not [value for value in texts_of_truth if value in text], path
    data = fetched["/result?workspace=w"].json()["data"]
    assert not {"max_error", "median_absolute_error", "mape"} & {*data["metrics"], *data["intervals"]}
    shown = {*numbers(data["metrics"]), *numbers(data["intervals"])}
    for value in shown:
        assert value == float(f"{value:.4g}")
    # What one row's number would be, if a number that is shown were its error, or the mean of nothing else. To the last
    # of its nine decimals: among hundreds of rows one has an error like four shown digits by chance.
    exact = np.array([float(text) for text in texts_of_truth])
    for value in shown:
        for error in (value, value * rows, value * math.sqrt(rows)):
            for guess in (predicted - error, predicted + error):
                with np.errstate(over="ignore", invalid="ignore"):
                    assert not (np.abs(guess - exact) < 1e-10 * np.abs(exact)).any(), (value, data["metrics"])
    svg = fetched["/artifacts/residuals.svg?workspace=w"].text
    assert 'class="al pt"' not in svg
    if way in ("own", "powers") and size > 1e4:  # every row has a column of its own, or lies far out
        assert not re.search(r'class="b\d+" d=', svg)


# --- detection --------------------------------------------------------------------------------------------


@settings(FEW, max_examples=examples(8))
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 60),
    categories=st.integers(1, 5),
    way=st.sampled_from(["right", "one", "unknown", "own"]),
)
def test_whatever_boxes_are_predicted_no_true_box_follows_from_what_is_shown(
    attacker: Attacker, seed: int, images: int, categories: int, way: str
) -> None:
    rng = np.random.default_rng(seed)
    boxes = [
        {"image_id": i, "category_id": int(c), "bbox": [float(v) for v in (x, y, w, h)]}
        for i in range(images)
        for c, (x, y, w, h) in zip(
            rng.integers(0, categories, 4), np.round(rng.uniform(11, 400, (4, 4)), 7), strict=True
        )
    ]
    predicted = [{**box, "score": 0.5} for box in boxes]
    if way == "one":
        predicted = predicted[:1]
    elif way == "unknown":
        predicted = [{**box, "category_id": 987_654_321_000 + i} for i, box in enumerate(predicted)]
    elif way == "own":
        predicted = [{**box, "score": 1 / (i + 2)} for i, box in enumerate(predicted)]
    fetched = attacker.score(
        json.dumps(boxes), json.dumps(predicted), "detection_map", name="d", suffix=".json", trial=False
    )
    for path, text in texts(fetched).items():
        assert "987654321" not in text, path
        assert not [box for box in boxes if repr(box["bbox"][0]) in text], path
    for name in ("pr_curves.json", "pr_curves.svg", "errors.csv", "per_class.csv"):
        assert fetched[f"/artifacts/{name}?workspace=d"].status_code == 403, name
    data = fetched["/result?workspace=d"].json()["data"]
    supports = Counter(f"ap/{box['category_id']}" for box in boxes)
    assert all(supports[name] >= 100 for name in data["metrics"] if "/" in name)
    for value in {*numbers(data["metrics"]), *numbers(data["intervals"])}:
        assert value == float(f"{value:.4g}")


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("truth", "predictions", "scorer"),
    [
        ("id,SECRET\na,1\n", "id,label\na,x\n", "classification_f1"),
        ("id,label\na,SECRET\nb,1\n", "id,label\na,1\nb,1\n", "regression_rmse"),
        ('id,label\na,"SECRET\n', "id,label\na,1\n", "classification_f1"),
        ("id,label\na,SECRET,SECRET\n", "id,label\na,1\n", "classification_f1"),
        ("id,label\na,SECRET\n", "id,label\na,1\nb,2\n", "classification_f1"),
        ('[{"image_id": 1, "category_id": "SECRET", "bbox": [1, 1, 1, -1]}]', "[]", "detection_map"),
        (
            '[{"image_id": 1, "category_id": "SECRET", "bbox": [1, 1, 1, 1]}]',
            '[{"image_id": 1, "category_id": 1, "bbox": [1, 1, 1, 1], "score": 1}]',
            "detection_map",
        ),
    ],
)
def test_no_error_quotes_the_ground_truth(attacker: Attacker, truth: str, predictions: str, scorer: str) -> None:
    suffix = ".json" if scorer == "detection_map" else ".csv"
    name = f"wrong-{abs(hash((truth, predictions)))}"
    fetched = attacker.score(truth, predictions, scorer, name=name, suffix=suffix)
    for path, answer in fetched.items():
        assert "SECRET" not in answer.text, path
    assert fetched["/tasks/one"].json()["data"]["error"]["code"]
    # Whoever may see the ground truth is told all of it.
    told = attacker.api.client.get("/tasks/one", headers=ADMIN).json()["data"]["error"]["message"]
    assert told != fetched["/tasks/one"].json()["data"]["error"]["message"] or "SECRET" not in told


@pytest.mark.slow
def test_what_is_wrong_with_predictions_is_told_in_full(attacker: Attacker) -> None:
    fetched = attacker.score("id,label\na,1\nb,2\n", "id,label\na,1\nb,none\n", "regression_rmse", name="own-fault")
    assert "got 'none'" in fetched["/tasks/one"].json()["data"]["error"]["message"]
    fetched = attacker.score("id,label\na,1\nb,2\n", "id,label\na,1\nzz,1\n", "regression_rmse", name="own-ids")
    assert "'zz'" in fetched["/tasks/one"].json()["data"]["error"]["message"]


@pytest.mark.slow
def test_a_scorer_of_ones_own_tells_its_score_and_what_it_declares(attacker: Attacker, tmp_path: Path) -> None:
    file = tmp_path / "teller.py"
    file.write_text(
        """
from autoscorer.schemas.result import Disclosed, Result
from autoscorer.scorers.base import BaseScorer
from autoscorer.scorers.registry import register

@register("teller")
class Teller(BaseScorer):
    name = "teller"
    version = "1.0.0"
    metric = "good"

    def score(self, workspace, params):
        truth = (workspace / "input" / "gt.csv").read_text()
        if "FAIL" in truth:
            raise ValueError(truth)
        return Result(
            summary={"score": 0.123456789, "good": 0.123456789, "first": truth},
            metrics={"good": 0.123456789, "row/a": 1.0, "mean": 0.5},
            notes=[truth],
            disclosed=Disclosed(metrics={"mean": 0.5}, notes=["two rows"]),
        )
"""
    )
    from autoscorer.scorers.registry import get_registry

    get_registry().load_file(file)
    try:
        fetched = attacker.score("id,label\na,SECRET\n", "id,label\na,1\n", "teller", name="told")
        data = fetched["/result?workspace=told"].json()["data"]
        assert data["summary"] == {
            "score": 0.1235, "pass": None, "rank": None, "higher_is_better": True, "good": 0.1235,
        }  # fmt: skip
        assert data["metrics"] == {"mean": 0.5, "good": 0.1235}
        assert data["notes"][0] == "two rows"
        failed = attacker.score("id,label\na,SECRET FAIL\n", "id,label\na,1\n", "teller", name="told")
        assert failed["/tasks/one"].json()["data"]["error"]["code"] == "SCORER_ERROR"
        for path, answer in [*fetched.items(), *failed.items()]:
            assert "SECRET" not in answer.text, path
    finally:
        get_registry().unload_file(file)


# --- a whole installation ---------------------------------------------------------------------------------


@pytest.mark.prefect
@pytest.mark.slow
def test_an_installation_tells_a_submitter_no_row_on_any_way(installation: Installation) -> None:
    ids = [f"id-{i:03d}" for i in range(300)]
    truths = {
        "attacked": [f"SECRET-{i % 7}" if i < 50 else f"class-{i % 3}" for i in range(300)],
        "broken": ["SECRET,"] * 300,
    }
    for name, truth in truths.items():
        folder = installation.workspace(name)
        (folder / "input" / "gt.csv").write_text(table(ids, truth))
        (folder / "output").mkdir(exist_ok=True)
        (folder / "output" / "pred.csv").write_text(table(ids, [f"own-{i}" for i in range(300)]))
    told = {}
    for name in truths:
        for path in ("/score?wait=120", "/validate?wait=120"):
            told[f"{name} {path}"] = installation.call("POST", path, {"workspace": name}, timeout=200)
        trial = {"workspace": name, "scorer": "classification_f1"}
        told[f"{name} trial"] = installation.call("POST", "/scorers/test", trial)
        told[f"{name} result"] = installation.call("GET", f"/result?workspace={name}")
    status, batch = installation.call("POST", "/batch", {"workspaces": [*truths], "action": "score"})
    assert status == 202
    address = f"/batch/{batch['data']['id']}"
    ended = ("completed", "failed")
    eventually(lambda: installation.call("GET", address)[1]["data"]["task"]["state"] in ended)
    for path in (address, f"{address}/leaderboard", "/tasks?limit=500"):
        told[path] = installation.call("GET", path)
    for task in told["/tasks?limit=500"][1]["data"]["tasks"]:
        for path in (f"/tasks/{task['id']}", f"/tasks/{task['id']}/logs"):
            told[path] = installation.call("GET", path)
    assert told["attacked /score?wait=120"][0] == 200 and told["broken /score?wait=120"][0] == 422
    for way, (_, body) in told.items():
        text = json.dumps(body)
        assert "SECRET" not in text and "own-" not in text, way
