"""report.html in English and in Chinese, and the report of those who may not see the ground truth."""

from __future__ import annotations

import ast
import base64
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import autoscorer
import numpy as np
import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import CATALOGUE, AutoScorerError, ErrorCode, Stage
from autoscorer.core.workspace import Workspace
from autoscorer.schemas.result import Interval, Result
from autoscorer.scorers.report import sections as report_sections
from autoscorer.scorers.report.report import render_report
from autoscorer.scorers.translation.chinese import WORDS
from autoscorer.scorers.translation.words import CHINESE, in_chinese
from autoscorer.tasks.results.failures import save_failure
from autoscorer.tasks.score import score_workspace
from pydantic import SecretStr

from ..support.browser import CONTRAST, Browser
from ..support.browser import browser as browser
from ..support.local_api import serve_locally

ROOT = Path(autoscorer.__file__).parent
# Names of things, which are the same in both languages.
NAMES = frozenset(
    [
        "autoscorer",
        "result.json",
        "errors.csv",
        "per_class.csv",
        "csv",
        "json",
        "api",
        "cpu",
        "kib",
        "mib",
        "iou",
        "map",
        "process",
        "wilson",
        "wilson-mover",
        "utc",
        "crowd",
        "wilson-scaled",
        "delta",
        "infinitesimal-jackknife",
        "scikit-learn",
        "mape",
        "mse",
        "rmse",
        "mae",
        "threshold",
        "submit",
        "admin",
        "accuracy",
    ]
)


def write(folder: Path, scorer: str, truth: Any, predictions: Any, **params: Any) -> Path:
    suffix = "json" if scorer == "detection_map" else "csv"
    for place, name, content in (("input", "gt", truth), ("output", "pred", predictions)):
        (folder / place).mkdir(parents=True, exist_ok=True)
        if suffix == "csv":
            content = "id,label\n" + "".join(f"r{key:04},{value}\n" for key, value in enumerate(content))
        else:
            content = json.dumps(content)
        (folder / place / f"{name}.{suffix}").write_text(content)
    (folder / "meta.json").write_text(json.dumps({"scorer": scorer, "params": params, "job_id": "任务"}))
    return folder


def boxes(rng: np.random.Generator, images: int, *, scores: bool = False) -> list[dict[str, Any]]:
    found = [
        {"image_id": i, "category_id": int(c), "bbox": [float(v) for v in np.round(rng.uniform(10, 90, 4), 1)]}
        for i in range(images)
        for c in rng.integers(1, 3, 3)
    ]
    return [{**box, "score": 0.5} for box in found] if scores else found


def workspaces(folder: Path) -> Iterator[Path]:
    """Workspaces whose Results have, together, the notes and plots of the built-in scorers."""
    rng = np.random.default_rng(5)
    yield write(folder / "f1", "classification_f1", [*"001122"] * 20, [*"013122"] * 20, pass_threshold=0.5)
    yield write(folder / "coarse", "classification_f1", rng.integers(0, 3, 900), rng.integers(0, 3, 900))
    yield write(folder / "many", "classification_f1", rng.integers(0, 60, 900), rng.integers(0, 60, 900))
    yield write(folder / "half", "classification_accuracy", [*"01"] * 5, [0.1, 0.7] * 5, threshold=0.5)
    yield write(folder / "words", "classification_accuracy", [*"01"] * 5, [*"01"] * 5, threshold=0.5)
    yield write(folder / "one", "classification_accuracy", ["1"] * 5, ["1"] * 5)
    yield write(folder / "empty", "classification_f1", ["", "1"] * 5, ["1", ""] * 5)
    yield write(
        folder / "rmse", "regression_rmse", rng.normal(size=900).round(3), rng.normal(size=900), pass_threshold=1
    )
    yield write(folder / "zeros", "regression_rmse", [0, 1, 2.5], [0.1, 1.3, 2.25])
    yield write(folder / "flat", "regression_rmse", [2, 2, 2], [1, 3, 1])
    yield write(folder / "single", "regression_rmse", [2], [1])
    yield write(folder / "huge", "regression_rmse", [-1e308, 1], [1.7e308, 1])
    yield write(folder / "dense", "regression_rmse", rng.normal(size=9000).round(3), rng.normal(size=9000).round(3))
    truth = boxes(rng, 12)
    yield write(folder / "map", "detection_map", truth, [{**box, "score": 0.5} for box in truth[::2]])
    yield write(folder / "none", "detection_map", truth, [])
    yield write(folder / "strange", "detection_map", truth[:3], [{**truth[0], "category_id": 77, "score": 0.25}])


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Result]]:
    found = [(path, score_workspace(path)) for path in workspaces(tmp_path_factory.mktemp("reports"))]
    for path, result in found:
        assert result.error is None, (path.name, result.error)
    return found


def block(html: str, language: str) -> str:
    """The part of the page in one language."""
    return html.split(f'<div class="wrap" lang="{language}">')[1].split('<div class="wrap"')[0]


ALT = re.compile(r'<img[^>]* alt="([^"]*)"[^>]*>')


def english_in(html: str) -> list[str]:
    """Words of English in a part of a page: not names, not what was submitted, and not what says itself that it is."""
    said = " ".join(re.findall(r'aria-label="([^"]*)"', html))
    html = ALT.sub(r"<p>\1</p>", html)
    html = re.sub(r"<bdi>.*?</bdi>|<pre>.*?</pre>|<code>.*?</code>", "", html, flags=re.DOTALL)
    html = re.sub(r'<(\w+)[^>]* lang="en">.*?</\1>', "", html, flags=re.DOTALL)
    text = unescape(re.sub(r"<[^>]+>", " ", f"{html} {said}"))
    words = (word.strip(".'-") for word in re.findall(r"[A-Za-z][A-Za-z0-9_.'-]{2,}", text))
    # With a digit or an underscore it is a metric, a parameter or a digest.
    return [word for word in words if word.lower() not in NAMES and not re.search(r"[_\d]", word)]


# --- the words --------------------------------------------------------------------------------------------


def said_by(path: Path) -> Iterator[str]:
    """Every text that a module gives to ``say``, and every name in it that ends there."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say":
            for argument in ast.walk(node.args[0]):
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value


def test_every_text_of_the_report_is_there_in_chinese() -> None:
    texts = {text for path in (ROOT / "scorers" / "report").glob("*.py") for text in said_by(path)}
    texts -= {", sha256"}
    assert len(texts) > 50
    texts |= set(report_sections._CAUSES.values()) | {stage.value for stage in Stage}
    texts |= {name.capitalize() for name in (*report_sections._STAGES, "other")}
    texts |= {spec.meaning for spec in CATALOGUE.values()}
    assert not sorted(texts - WORDS.keys())


def test_both_languages_name_the_same_values() -> None:
    for english, chinese in WORDS.items():
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", chinese)), english
        assert re.search(r"[\u4e00-\u9fff]", chinese), english


def test_every_note_of_the_built_in_scorers_is_there_in_chinese(scored: list[tuple[Path, Result]]) -> None:
    notes = {note for _, result in scored for note in (*result.notes, *result.disclosed.notes)}
    assert len(notes) > 20
    assert not [note for note in notes if in_chinese(note) is None]


def test_names_of_a_submission_stay_as_they_are() -> None:
    assert in_chinese("x is undefined: " * 5000) is None  # at once: a scorer of one's own may say anything
    note = "1 label never predicted: its precision is 0/0 and counts as 0 ('Total. Notes')."
    assert in_chinese(note) == "1 个标签从未被预测：其精确率为 0/0，按 0 计（'Total. Notes'）。"
    assert in_chinese("What somebody's scorer says.") is None


# --- the page ---------------------------------------------------------------------------------------------


def test_no_english_is_left_in_the_chinese_page(scored: list[tuple[Path, Result]]) -> None:
    for path, result in scored:
        html = (path / "output/artifacts/report.html").read_text(encoding="utf-8")
        assert english_in(block(html, "zh-CN")) == [], path.name
        assert english_in(block(html, "en")) != []
        for name in result.metrics:
            assert name.split("/")[0] in block(html, "zh-CN")


def test_a_failure_says_in_chinese_what_its_code_means_and_keeps_the_message(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("{}")
    error = AutoScorerError(ErrorCode.CONTAINER_FAILED, "The model exited with code 3.", details={"exit_code": 3})
    save_failure(Workspace(tmp_path), error, settings=load_settings())
    html = (tmp_path / "output/artifacts/report.html").read_text(encoding="utf-8")
    page = block(html, "zh-CN")
    assert "模型出错退出。" in page
    assert '<p class="message" lang="en">The model exited with code 3.</p>' in page
    assert english_in(page) == []


def svg_texts(svg: str) -> tuple[list[str], list[str]]:
    """The texts of a plot as it shows in English and in Chinese."""
    texts = [
        (str(element.get("class") or "").split(), element.text or "")
        for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    ]
    return [text for css, text in texts if "zh" not in css], [text for css, text in texts if "en" not in css]


def test_plots_are_in_both_languages_and_labels_in_neither(scored: list[tuple[Path, Result]]) -> None:
    for path, result in scored:
        html = (path / "output/artifacts/report.html").read_text(encoding="utf-8")
        for language in ("en", "zh-CN"):
            sources = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', block(html, language))
            svgs = [base64.b64decode(source).decode() for source in sources]
            assert len(svgs) == len([a for a in result.artifacts.values() if a.path.endswith(".svg")])
            for svg in svgs:
                assert (' lang="zh-CN" ' in svg.split(">")[0]) == (language == "zh-CN")
                english, chinese = svg_texts(svg)
                # An axis' ticks and a submission's labels are no words.
                left = [w for text in chinese for w in re.findall(r"[A-Za-z]{3,}", text) if w not in ("IoU",)]
                assert not left, (path.name, left)
                assert re.search(r"[A-Za-z]{3,}", " ".join(english))


def test_numbers_are_rounded_for_reading_everywhere(tmp_path: Path) -> None:
    write(tmp_path, "regression_rmse", [0.1 + 0.2, 1 / 3], [1 / 7, 2 / 3], pass_threshold=1 / 3)
    result = score_workspace(tmp_path)
    html = (tmp_path / "output/artifacts/report.html").read_text(encoding="utf-8")
    for part in (block(html, "en"), block(html, "zh-CN")):
        part = part.split("<h2>Provenance</h2>")[0].split("<h2>来源</h2>")[0]
        shown = re.sub(r"<[^>]+>", " ", part)  # full precision stands in attributes, for machines
        assert not re.findall(r"\d\.\d{7,}", shown)
    assert repr(result.summary.score) in html


@pytest.mark.parametrize(("language", "other"), [("en", "zh-CN"), ("zh", "en")])
def test_the_setting_says_which_language_is_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str, other: str
) -> None:
    monkeypatch.setenv("AUTOSCORER_SCORERS__REPORT_LANGUAGE", language)
    workspace = write(tmp_path, "classification_f1", [*"01"], [*"01"])
    score_workspace(workspace)
    html = (tmp_path / "output/artifacts/report.html").read_text(encoding="utf-8")
    assert re.findall(r'id="in-(\w+)"[^>]* checked', html) == [language]
    assert f'<html lang="{other}">' not in html
    save_failure(Workspace(tmp_path), AutoScorerError(ErrorCode.MISSING_FILE, "no"), settings=load_settings())
    html = (tmp_path / "output/artifacts/report.html").read_text(encoding="utf-8")
    assert re.findall(r'id="in-(\w+)"[^>]* checked', html) == [language]


SHOWN = "[...document.querySelectorAll('.wrap')].filter(e => e.offsetParent !== null).map(e => e.lang).join()"


def test_the_switch_works_without_a_script(browser: Browser, scored: list[tuple[Path, Result]]) -> None:
    for name in ("f1", "rmse", "map"):
        page = next(path for path, _ in scored if path.name == name) / "output/artifacts/report.html"
        for width, scheme in ((1200, "light"), (360, "dark")):
            browser.open(page, width=width, scheme=scheme)
            assert browser.value(SHOWN) == "en"
            assert browser.value("[...document.querySelectorAll('.langs label')].map(e => e.textContent).join()") == (
                "English,中文"
            )
            browser.value("document.querySelector('label[for=in-zh]').click()")
            assert browser.value(SHOWN) == "zh-CN"
            assert browser.value("document.documentElement.scrollWidth") <= width
            assert browser.value(CONTRAST) == []
            browser.value("document.querySelector('#in-en').focus()")
            assert browser.value("document.activeElement.id") == "in-en"
            browser.value("document.activeElement.click()")
            assert browser.value(SHOWN) == "en"
            assert browser.value(CONTRAST) == []
            assert browser.requests() == [page.as_uri()]
            assert browser.complaints() == []


# --- for those who may not see the ground truth --------------------------------------------------------------


def test_the_shared_report_is_made_of_what_may_be_told(scored: list[tuple[Path, Result]]) -> None:
    for path, result in scored:
        shared = (path / "output/artifacts/shared/report.html").read_text(encoding="utf-8")
        assert result.disclosed.artifacts["report"].path == "output/artifacts/shared/report.html"
        assert "errors.csv" not in re.sub(r"<li.*?</li>", "", shared)
        assert not re.search(r"\br\d{4}\b", shared), "the id of a row"
        if result.versioning.ground_truth_sha256 != result.versioning.predictions_sha256:
            assert str(result.versioning.ground_truth_sha256) not in shared
        assert english_in(block(shared, "zh-CN")) == [], path.name
        for plot in re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', block(shared, "en")):
            plots = [path / a.path for name, a in result.disclosed.artifacts.items() if a.path.endswith(".svg")]
            assert base64.b64decode(plot) in [plot_file.read_bytes() for plot_file in plots]
        full = set(re.findall(r'title="(-?\d+\.\d{6,})"', (path / "output/artifacts/report.html").read_text()))
        assert not full & set(re.findall(r'title="(-?\d+\.\d{6,})"', shared))


def test_the_shared_report_of_a_failure_quotes_nothing(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("{}")
    error = AutoScorerError(ErrorCode.MISMATCH, "SECRET is missing.", details={"missing": ["SECRET"]})
    result = save_failure(Workspace(tmp_path), error, settings=load_settings())
    assert result.disclosed.artifacts["report"].size
    shared = (tmp_path / "output/artifacts/shared/report.html").read_text(encoding="utf-8")
    assert "SECRET" not in shared
    assert "Ground truth and predictions do not cover the same ids." in block(shared, "en")
    assert "标准答案与预测的 id 不一致。" in block(shared, "zh-CN")
    assert english_in(block(shared, "zh-CN")) == []


def test_a_submit_token_gets_the_shared_report_at_the_same_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Browser
) -> None:
    rng = np.random.default_rng(1)
    write(tmp_path / "root/w", "classification_f1", rng.integers(0, 3, 900), rng.integers(0, 3, 900))
    score_workspace(tmp_path / "root/w")
    settings = Settings(
        workspace_roots=(tmp_path / "root",),
        home=tmp_path / "home",
        api_tokens=SecretStr("submit:sss-token,admin:aaa-token"),
    )
    artifacts = tmp_path / "root/w/output/artifacts"
    with serve_locally(settings, monkeypatch) as api:
        for token, file in (("sss-token", "shared/report.html"), ("aaa-token", "report.html")):
            header = {"Authorization": f"Bearer {token}"}
            answer = api.client.get("/artifacts/report.html?workspace=w", headers=header)
            assert answer.status_code == 200
            assert answer.content == (artifacts / file).read_bytes()
            listed = api.client.get("/result?workspace=w", headers=header).json()["data"]["artifacts"]
            assert listed["report"]["path"] == "output/artifacts/report.html"
            # Its links lead to what the same token may have.
            for link in set(re.findall(r'href="\./([^"]+)"', answer.text)):
                assert api.client.get(f"/artifacts/{link}?workspace=w", headers=header).status_code == 200, link
    browser.open(artifacts / "shared/report.html")
    assert browser.complaints() == []
    assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 100)")


def test_an_interval_in_chinese_reads_as_one() -> None:
    result = Result.model_validate({"summary": {"score": 0.5, "f1": 0.5}, "metrics": {"f1": 0.5}})
    result.intervals["f1"] = Interval(low=0.25, high=0.75, method="delta", n_resamples=2000)
    page = block(render_report(result, Path("/nonexistent"), language="zh"), CHINESE.code)
    assert "95 % 置信区间 0.2500 至 0.7500" in page
    assert "delta，重抽样 2,000 次" in page
