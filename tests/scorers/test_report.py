"""report.html: complete, escaped, self-contained; and in a real browser it loads nothing and reads well."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin

import numpy as np
import pytest
from autoscorer.core.text import visible
from autoscorer.core.workspace import ArtifactWriter
from autoscorer.schemas.result import Artifact, Interval, Result
from autoscorer.scorers.plots.curves_and_bars import confusion_matrix_svg, per_class_svg
from autoscorer.scorers.report.html import duration, link, number, scale_of, size
from autoscorer.scorers.report.report import render_report as render_whole
from autoscorer.scorers.report.report import write_report
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ..support.browser import CONTRAST, Browser
from ..support.browser import browser as browser
from ..support.examples import examples

VOID = {"meta", "link", "img", "br", "input"}
EVIL = [
    "<script>alert(1)</script>",
    '"><img src=http://evil.example/x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "//evil.example/x",
    "</style><script>alert(1)</script>",
    "--><svg/onload=alert(1)>",
    "\x00\x1b[31m\u202egnp.exe",
    "&lt;b&gt;&amp;&#60;",
    "日本語 عربى",
    "",
    "url(http://evil.example/x)",
]


def render_report(result: Result, workspace: Path) -> str:
    """The page as it shows in English; the Chinese one has its own tests in test_seed_meta.py."""
    english, _ = render_whole(result, workspace).split('<div class="wrap" lang="zh-CN">')
    return english + "</body></html>"


class Page(HTMLParser):
    """Reads a page strictly: every tag closed in order, and nothing in it that loads or runs."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[tuple[str, str]] = []  # (tag around it, text)
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        assert len(values) == len(attrs), f"an attribute twice in <{tag}>"
        self.tags.append((tag, values))
        assert tag not in {"script", "iframe", "object", "embed", "form", "base", "svg"}
        assert tag != "input" or (values["type"], values["name"]) == ("radio", "lang")
        for name, value in values.items():
            assert not name.startswith("on")
            if name in {"src", "href", "action", "srcset", "poster", "data"}:
                assert re.match(r"\.\.?/|data:image/svg\+xml;base64,[A-Za-z0-9+/=]+$|data:,$", value or ""), value
            if name == "style":
                assert re.fullmatch(r"[a-z]+:[\d.%\- ]+(;[a-z]+:[\d.%\- ]+)*", value or ""), value
            if name == "class":
                assert re.fullmatch(r"[a-z0-9 ]+", value or ""), value
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            assert "url(" not in data
            assert "@import" not in data
        elif data.strip():
            self.pieces.append((self.open[-1] if self.open else "", data))

    @property
    def text(self) -> str:
        return "\n".join(piece for _, piece in self.pieces)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [values for name, values in self.tags if name == tag]

    def rows(self) -> list[str]:
        """Texts of the row headers, in order."""
        return [text for tag, text in self.pieces if tag in {"th", "bdi", "data"}]


def classification(workspace: Path) -> Result:
    """A Result as the classification scorer leaves it, with its files on disk."""
    workspace.mkdir(exist_ok=True)
    writer = ArtifactWriter(workspace)
    labels = ["cat", "dog", "<b>bird</b>"]
    matrix = np.array([[50, 2, 1], [3, 40, 0], [0, 4, 12]])
    writer.write("confusion_matrix", "confusion_matrix.svg", confusion_matrix_svg(labels, matrix))
    writer.write("f1_by_class", "f1_by_class.svg", per_class_svg(labels, [0.94, 0.9, None], title="F1 by class"))
    rows = "".join(f"img_{i:03d},cat,<i>dog</i>\n" for i in range(30))
    writer.write("errors", "errors.csv", "id,label,predicted\n" + rows)
    metrics: dict[str, float | None] = {"accuracy": 0.91071, "f1_macro": 0.88123456789, "n_rows": 112.0}
    for label, value in zip(labels, [0.94, 0.9, None], strict=True):
        metrics[f"f1/{label}"] = value
        metrics[f"support/{label}"] = 40.0
    return Result.model_validate(
        {
            "job_id": "team-7",
            "task_type": "classification",
            "summary": {"score": 0.88123456789, "f1_macro": 0.88123456789, "pass": True, "rank": "B"},
            "metrics": metrics,
            "intervals": {"f1_macro": {"low": 0.83, "high": 0.93, "method": "delta"}},
            "artifacts": writer.artifacts,
            "timing": {"validate": 0.02, "run": 12.5, "load": 0.01, "compute": 0.004, "save": 0.02, "total": 13.0},
            "resources": {
                "peak_memory_bytes": 3 << 28,
                "cpu_seconds": 14.2,
                "gpu_memory_bytes": 5 << 30,
                "gpu_seconds": 11.3,
                "exit_code": 0,
                "backend": "docker",
            },
            "versioning": {
                "autoscorer": "0.1.0",
                "scorer": "classification_f1",
                "scorer_version": "1.0.0",
                "scorer_sha256": "a" * 64,
                "params": {"pass_threshold": 0.8},
                "image": "registry.example.org/team-7/model:2",
                "image_digest": "sha256:" + "b" * 64,
                "ground_truth_sha256": "c" * 64,
                "timestamp": "2026-11-22T18:20:11Z",
                "hostname": "worker-3",
            },
            "notes": ["f1/<b>bird</b> is undefined: it was never predicted."],
        }
    )


def failed() -> Result:
    return Result.model_validate(
        {
            "job_id": "team-8",
            "error": {
                "code": "CONTAINER_FAILED",
                "message": "The model exited with code 1.\nThe last lines of its log are in details.",
                "stage": "execution",
                "details": {"exit_code": 1, "log": ["Traceback:", "<script>alert(1)</script>", "\x1b[31mred"]},
            },
        }
    )


class TestContent:
    def test_everything_of_the_result_is_on_the_page(self, tmp_path: Path) -> None:
        page = Page(render_report(classification(tmp_path), tmp_path))
        for piece in (
            *("team-7", "classification", "classification_f1 1.0.0", "2026-11-22 18:20:11 UTC", "0.8812", "✓ Pass"),
            *("Rank B", "95 % interval 0.8300 to 0.9300", "delta", "To pass: at least 0.8", "0.9107", "112"),
            *("f1/<b>bird</b> is undefined: it was never predicted.", "undefined", "768.0 MiB", "14.2 s", "12.5 s"),
            *("5.0 GiB", "11.3 s"),
            *("a" * 64, "b" * 64, "c" * 64, "worker-3", "registry.example.org/team-7/model:2", "pass_threshold"),
        ):
            assert piece in page.text, piece

    def test_the_title_is_the_job_or_else_the_services_name_of_the_workspace(self, tmp_path: Path) -> None:
        result = classification(tmp_path)
        assert "<h1><bdi>team-7</bdi></h1>" in render_whole(result, tmp_path, name="round-1/x")
        result.job_id = tmp_path.name
        assert f"<h1><bdi>round-1/{tmp_path.name}</bdi>" in render_whole(
            result, tmp_path, name=f"round-1/{tmp_path.name}"
        )
        assert f"<h1><bdi>{tmp_path.name}</bdi></h1>" in render_whole(result, tmp_path)

    def test_the_full_precision_is_in_the_page(self, tmp_path: Path) -> None:
        values = {a["value"] for a in Page(render_report(classification(tmp_path), tmp_path)).attributes("data")}
        assert "0.88123456789" in values

    def test_main_metric_comes_first(self, tmp_path: Path) -> None:
        html = render_report(classification(tmp_path), tmp_path)
        table = html.split("<h2>Metrics</h2>")[1]
        assert table.index("f1_macro") < table.index("accuracy")
        assert '<tr class="main"><th scope="row"><bdi>f1_macro</bdi>' in table

    def test_metrics_by_class_share_one_folding_table(self, tmp_path: Path) -> None:
        html = render_report(classification(tmp_path), tmp_path)
        folded = re.findall(r"<details[^>]*>(.*?)</details>", html, re.S)
        assert len(folded) == 1
        assert re.findall(r'<th scope="row"><bdi>(.*?)</bdi>', folded[0]) == ["cat", "dog", "&lt;b&gt;bird&lt;/b&gt;"]
        assert re.findall(r'<th scope="col" class="n"><bdi>(.*?)</bdi>', folded[0]) == ["f1", "support"]
        assert "f1/" not in html.split("<h2>Metrics</h2>")[1].split("<details")[0]

    def test_a_class_with_a_slash_keeps_it(self, tmp_path: Path) -> None:
        result = Result(metrics={"f1/a/b": 0.5, "f1/c": 0.25})
        assert {"a/b", "c"} <= set(Page(render_report(result, tmp_path)).rows())

    def test_very_many_classes_are_cut_and_it_says_so(self, tmp_path: Path) -> None:
        result = Result(metrics={f"f1/{i}": 0.5 for i in range(3000)})
        html = render_report(result, tmp_path)
        assert "The first 500 of 3,000; the rest is in result.json." in html
        assert len(html) < 200_000

    def test_lower_is_better_and_an_open_scale(self, tmp_path: Path) -> None:
        result = Result.model_validate(
            {
                "summary": {"score": 54.83, "rmse": 54.83, "pass": False, "higher_is_better": False},
                "metrics": {"rmse": 54.83},
                "versioning": {"params": {"pass_threshold": 50}},
            }
        )
        page = Page(render_report(result, tmp_path))
        assert "Lower is better" in page.text
        assert "✗ Fail" in page.text
        assert "To pass: at most 50" in page.text
        assert not [a for a in page.attributes("div") if a.get("class") == "scale"]

    def test_the_interval_is_drawn_where_it_is(self, tmp_path: Path) -> None:
        html = render_report(classification(tmp_path), tmp_path)
        assert 'class="band" style="left:83.00%;width:10.00%"' in html
        assert 'class="dot" style="left:88.12%"' in html
        assert 'class="goal" style="left:80.00%"' in html
        said = next(a["aria-label"] for a in Page(html).attributes("div") if a.get("class") == "scale")
        assert said == "0.8812 on a scale from 0 to 1; interval 0.8300 to 0.9300; 0.8 needed to pass"

    def test_an_undefined_score_is_not_zero(self, tmp_path: Path) -> None:
        result = Result.model_validate({"summary": {"score": None, "f1": None}, "metrics": {"f1": None}})
        html = render_report(result, tmp_path)
        assert '<p class="score"><span class="muted">undefined</span></p>' in html

    def test_different_levels_are_told_row_by_row(self, tmp_path: Path) -> None:
        one, two = (Interval(low=0.1, high=0.2, level=level, method="delta") for level in (0.95, 0.9))
        html = render_report(Result(metrics={"a": 0.1, "b": 0.1}, intervals={"a": one, "b": two}), tmp_path)
        assert "(95 %)" in html
        assert "(90 %)" in html

    def test_time_that_no_stage_claims_is_shown(self, tmp_path: Path) -> None:
        result = Result.model_validate({"timing": {"run": 1.0, "total": 4.0}})
        page = Page(render_report(result, tmp_path))
        assert "Other" in page.text
        assert "3.00 s" in page.text
        assert [a["style"] for a in page.attributes("span") if "style" in a] == ["flex:25.00 0 0", "flex:75.00 0 0"]

    def test_empty_result(self, tmp_path: Path) -> None:
        page = Page(render_report(Result(), tmp_path))
        assert tmp_path.name in page.text
        assert "undefined" in page.text

    def test_same_input_same_bytes(self, tmp_path: Path) -> None:
        result = classification(tmp_path)
        assert render_report(result, tmp_path) == render_report(result.model_copy(deep=True), tmp_path)


class TestFailure:
    def test_code_message_cause_and_log(self, tmp_path: Path) -> None:
        page = Page(render_report(failed(), tmp_path))
        for piece in ("No score", "CONTAINER_FAILED", "The submission", "execution", "<script>alert(1)</script>"):
            assert piece in page.text
        assert ("pre", "Traceback:\n<script>alert(1)</script>\n␛[31mred") in page.pieces
        assert "Higher is better" not in page.text

    def test_several_problems_are_a_list(self, tmp_path: Path) -> None:
        problems = [{"code": "INVALID_META", "message": "first <b>"}, {"code": "MISSING_FILE", "message": "second"}]
        message = "2 problems. INVALID_META: first <b> | MISSING_FILE: second"
        error = {"code": "INVALID_META", "message": message, "stage": "validation"}
        result = Result.model_validate({"error": {**error, "details": {"problems": problems}}})
        page = Page(render_report(result, tmp_path))
        assert {" first <b>", " second"} <= {text for tag, text in page.pieces if tag == "li"}
        assert ("p", "2 problems:") in page.pieces  # and not all of it a second time

    def test_a_code_of_a_later_version_is_shown(self, tmp_path: Path) -> None:
        error = {"code": "NEW_CODE", "message": "m", "stage": "scoring"}
        assert "NEW_CODE" in Page(render_report(Result.model_validate({"error": error}), tmp_path)).text


class TestFiles:
    def test_plots_are_embedded_byte_for_byte_with_a_description(self, tmp_path: Path) -> None:
        result = classification(tmp_path)
        images = Page(render_report(result, tmp_path)).attributes("img")
        assert len(images) == 2
        for image, name in zip(images, ["confusion_matrix", "f1_by_class"], strict=True):
            content = base64.b64decode((image["src"] or "").split(",", 1)[1])
            assert content == (tmp_path / result.artifacts[name].path).read_bytes()
        assert (images[0]["alt"] or "").startswith("112 rows, 3 classes.")

    def test_links_are_relative_to_the_report(self, tmp_path: Path) -> None:
        result = classification(tmp_path)
        result.artifacts["predictions"] = Artifact(path="output/pred.csv")
        result.artifacts["odd"] = Artifact(path="output/artifacts/sub dir/a#b?c%.txt")
        hrefs = {a["href"] or "" for a in Page(render_report(result, tmp_path)).attributes("a")}
        assert {"./errors.csv", "../pred.csv", "./sub%20dir/a%23b%3Fc%25.txt", "../result.json"} <= hrefs

    @pytest.mark.parametrize(
        "path",
        [
            "/etc/passwd",
            "../../secret.svg",
            "output/artifacts/../../../x.svg",
            "//evil.example/x.svg",
            "",
            "a\\b",
            "a\nb",
        ],
    )
    def test_a_path_that_leaves_the_workspace_is_no_link_and_not_read(self, tmp_path: Path, path: str) -> None:
        workspace = tmp_path / "ws"
        workspace.mkdir()
        (tmp_path / "x.svg").write_text("<svg>secret</svg>")
        html = render_report(Result(artifacts={"a": Artifact(path=path)}), workspace)
        assert [a["href"] for a in Page(html).attributes("a")] == ["../result.json"]
        assert "<img" not in html

    @pytest.mark.parametrize("kind", ["link", "folder link", "fifo", "folder", "missing", "huge"])
    def test_what_is_no_plain_small_file_is_left_out(self, tmp_path: Path, kind: str) -> None:
        workspace, secret = tmp_path / "ws", tmp_path / "secret"
        artifacts = workspace / "output" / "artifacts"
        artifacts.mkdir(parents=True)
        secret.mkdir()
        (secret / "x.svg").write_text("<svg>secret</svg>")
        (secret / "errors.csv").write_text("id\nsecret\n")
        folder = "sub/" if kind == "folder link" else ""
        for name in ("x.svg", "errors.csv"):
            if kind == "link":
                (artifacts / name).symlink_to(secret / name)
            elif kind == "fifo":
                os.mkfifo(artifacts / name)
            elif kind == "folder":
                (artifacts / name).mkdir()
            elif kind == "huge":
                (artifacts / "x.svg").write_bytes(b"<svg>" + b" " * (1 << 20))
        if kind == "folder link":
            (artifacts / "sub").symlink_to(secret)
        items = {n: Artifact(path=f"output/artifacts/{folder}{n}") for n in ("x.svg", "errors.csv")}
        html = render_report(Result(artifacts=items), workspace)
        assert "<img" not in html
        assert "secret" not in html

    def test_first_rows_of_errors_csv(self, tmp_path: Path) -> None:
        page = Page(render_report(classification(tmp_path), tmp_path))
        rows = [text for text in page.rows() if re.fullmatch(r"img_\d+", text)]
        assert rows == [f"img_{i:03d}" for i in range(20)]
        assert "<i>dog</i>" in page.text

    @pytest.mark.parametrize(
        ("content", "seen"),
        [
            (b"", None),
            (b"id,label\n", None),
            (b"id\n1\n", "1 row, from errors.csv."),
            (b"\xef\xbb\xbfid,label\r\n1\r\n2,a,b,c\r\n", "2 rows, from errors.csv."),
            (b"id\n\xff\xfe\x00\n", "1 row, from errors.csv."),
            (b'id\n1\n"never closed\n' + b"x" * 400_000, "The first row of errors.csv."),
            (b"id\n" + b"y" * 200_000, None),
        ],
        ids=["empty", "head alone", "one", "ragged", "no utf-8", "open quote", "field too long"],
    )
    def test_odd_errors_csv(self, tmp_path: Path, content: bytes, seen: str | None) -> None:
        writer = ArtifactWriter(tmp_path)
        writer.write("errors", "errors.csv", content)
        page = Page(render_report(Result(artifacts=writer.artifacts), tmp_path))
        assert (seen in page.text) if seen else "<h2>Errors" not in page.text

    def test_write_report(self, tmp_path: Path) -> None:
        result = classification(tmp_path)
        artifact = write_report(result, tmp_path)
        content = (tmp_path / "output" / "artifacts" / "report.html").read_bytes()
        assert artifact == Artifact(
            path="output/artifacts/report.html",
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            media_type="text/html",
        )
        # Written again, with itself among the artifacts, it is the same: it does not list itself.
        result.artifacts["report"] = artifact
        assert write_report(result, tmp_path) == artifact


def test_the_policy_allows_nothing_but_what_is_inside(tmp_path: Path) -> None:
    metas = Page(render_report(Result(), tmp_path)).attributes("meta")
    policy = next(a["content"] or "" for a in metas if a.get("http-equiv") == "Content-Security-Policy")
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["style-src"] == "'unsafe-inline'"
    assert directives["img-src"] == "data:"
    assert "script-src" not in directives


evil = st.sampled_from(EVIL) | st.text(max_size=40)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(st.characters(codec=None), max_size=20) | st.sampled_from(EVIL),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(evil, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=examples(120), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_hostile_text_anywhere_is_only_text(data: st.DataObject) -> None:
    value = st.none() | st.floats(allow_nan=False, allow_infinity=False)
    metrics = data.draw(st.dictionaries(evil | evil.map("f1/{}".format), value, max_size=6))
    result = Result.model_validate(
        {
            "job_id": data.draw(evil),
            "task_type": data.draw(evil),
            "summary": {
                "score": data.draw(value),
                **({data.draw(st.sampled_from(sorted(metrics))): 0.5} if metrics else {}),
                "rank": data.draw(st.none() | evil),
            },
            "metrics": metrics,
            "intervals": {
                name: {"low": 0.1, "high": 0.9, "method": data.draw(evil)}
                for name in data.draw(st.lists(evil, max_size=2, unique=True))
            },
            "artifacts": {
                name: {"path": data.draw(evil | evil.map("output/artifacts/{}.svg".format)), "sha256": data.draw(evil)}
                for name in data.draw(st.lists(evil, max_size=3, unique=True))
            },
            "versioning": {
                "params": data.draw(st.dictionaries(evil, json_values, max_size=3)),
                **{k: data.draw(evil) for k in ("scorer", "image", "hostname", "timestamp", "scorer_sha256")},
            },
            "notes": data.draw(st.lists(evil, max_size=3)),
            "error": data.draw(
                st.none()
                | st.fixed_dictionaries(
                    {"code": evil, "message": evil, "stage": evil, "details": st.dictionaries(evil, json_values)}
                )
            ),
        }
    )
    html = render_report(result, Path("/nonexistent"))
    html.encode()
    page = Page(html)
    for note in result.notes:
        if note.strip():
            assert visible(note).strip() in page.text


@pytest.mark.parametrize("label", EVIL, ids=range(len(EVIL)))
def test_hostile_labels_in_files_are_only_text(tmp_path: Path, label: str) -> None:
    writer = ArtifactWriter(tmp_path)
    writer.write("m", "m.svg", confusion_matrix_svg([label, "b"], np.eye(2)))
    writer.write("hand", "hand.svg", f"<svg><title>t</title><desc>{label}</desc><script>alert(1)</script></svg>")
    writer.write("errors", "errors.csv", f"id,{label}\n{label},x\n")
    Page(render_report(Result(artifacts=writer.artifacts), tmp_path))


@given(st.text(max_size=30) | st.sampled_from(EVIL).map("output/artifacts/{}".format))
@example("javascript:alert(1)")
@example("output/artifacts//evil.example")
def test_links_stay_inside_the_workspace(path: str) -> None:
    address = link(path)
    if address is not None:
        assert address.startswith(("./", "../"))
        resolved = urljoin("file:///ws/output/artifacts/report.html", address)
        assert resolved.startswith("file:///ws")
        assert not re.search(r"[\s\"'<>:\\]", address)
        assert ".." not in unquote(resolved.removeprefix("file:///ws")).split("/")


@given(st.floats(-1e300, 1e300))
@example(0.99996)
@example(1 - 2**-53)
@example(0.0)
@example(-0.0004)
def test_numbers_for_reading_stay_close_and_honest(value: float) -> None:
    shown = number(value)
    back = float(shown.replace("−", "-").replace(",", ""))
    # Four decimals below 10, four digits elsewhere.
    assert back == pytest.approx(value, rel=6e-4, abs=5.1e-5 if 1e-3 <= abs(value) < 10 else 0)
    assert (back == 1) == (value == 1) or abs(value) > 1.00001
    assert (back == 0) == (value == 0)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.5, "0.5000"),
        (1.0, "1.0000"),
        (0.99996, "0.99996"),
        (54.8316, "54.832"),
        (1797.0, "1,797"),
        (-0.3878, "−0.3878"),
        (158.9712, "158.97"),
        (2e-7, "2e-7"),
        (1.5e9 + 0.5, "1.5e9"),
        (12345.678, "12,345.7"),
    ],
)
def test_number(value: float, shown: str) -> None:
    assert number(value) == shown


def test_durations_and_sizes() -> None:
    assert [duration(s) for s in (0, 0.0001, 0.021, 1.3, 12.71, 59.96, 184, 7260)] == [
        *("0 s", "< 1 ms", "21 ms", "1.30 s", "12.7 s", "1 min 00 s", "3 min 04 s", "2 h 01 min")
    ]
    assert [size(n) for n in (0, 1023, 1024, 3 << 20, 5 << 30, 7 << 40)] == [
        *("0 B", "1023 B", "1.0 KiB", "3.0 MiB", "5.0 GiB", "7.0 TiB")
    ]


@pytest.mark.parametrize(
    ("metric", "values", "scale"),
    [
        *[
            (name, [0.5], (0.0, 1.0))
            for name in ("f1_macro", "accuracy", "AP50", "mAP", "ap/cat", "top5_accuracy", "r2")
        ],
        *[(name, [0.5], (-1.0, 1.0)) for name in ("mcc", "cohen_kappa", "spearman")],
        *[(name, [0.5], None) for name in ("rmse", "mae", "log_loss", "max_error", "score", "n_rows")],
        ("r2", [-0.4], None),
        ("accuracy", [0.99, 0.97, 1.01], None),
    ],
)
def test_scale_of(metric: str, values: list[float], scale: tuple[float, float] | None) -> None:
    assert scale_of(metric, values) == scale


def test_importing_the_report_imports_no_library() -> None:
    code = (
        "import autoscorer.scorers.report.report, sys\n"
        "print(*{'numpy', 'pandas', 'sklearn', 'rich', 'jinja2', 'pyarrow', 'prefect'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == ""


# ---- In a real browser -------------------------------------------------------------------------------------------


@pytest.mark.slow
class TestBrowser:
    @pytest.fixture
    def pages(self, tmp_path: Path) -> list[Path]:
        found = []
        for result in (classification(tmp_path / "good"), failed()):
            workspace = tmp_path / ("good" if result.error is None else "bad")
            workspace.mkdir(exist_ok=True)
            found.append(workspace / write_report(result, workspace).path)
        return found

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [360, 1200])
    def test_loads_nothing_complains_of_nothing_and_reads_well(
        self, browser: Browser, pages: list[Path], scheme: str, width: int
    ) -> None:
        for page in pages:
            browser.open(page, width=width, scheme=scheme)
            assert browser.requests() == [page.as_uri()]
            assert browser.complaints() == []
            assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 100)")
            assert browser.value("document.documentElement.scrollWidth") <= width
            assert browser.value(CONTRAST) == []
        assert browser.value("document.images.length") == 0  # of the failed run
        browser.open(pages[0], width=width, scheme=scheme)
        assert browser.value("[...document.images].filter(i => i.offsetParent).length") == 2

    def test_prints_light_with_everything_unfolded(self, browser: Browser, pages: list[Path]) -> None:
        browser.open(pages[0], width=760, scheme="dark", media="print")
        assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        browser.value("document.querySelector('details').open = false")
        assert browser.value("document.querySelector('details table').getBoundingClientRect().height") > 50

    def test_on_paper_nothing_is_cut_at_the_edge(self, browser: Browser, pages: list[Path]) -> None:
        for page in pages:
            browser.open(page, width=640, media="print")
            beyond = browser.value(
                "[...document.querySelectorAll('td, th, img')].filter(each => each.offsetParent"
                " && each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 80))"
            )
            assert beyond == []

    def test_on_a_telephone_words_are_whole_and_what_is_beyond_the_edge_is_hinted_at(
        self, browser: Browser, tmp_path: Path
    ) -> None:
        result = classification(tmp_path / "good")
        result.metrics = {"f1_macro": 0.5, "precision_weighted": 0.5}
        writer = ArtifactWriter(tmp_path / "good")
        writer.write("wide", "wide.svg", '<svg xmlns="http://www.w3.org/2000/svg" width="900" height="300"></svg>')
        result.artifacts |= writer.artifacts
        page = tmp_path / "good" / write_report(result, tmp_path / "good").path
        hints = "[...document.querySelectorAll('.sideways')].filter(e => e.offsetParent).length"
        browser.open(page, width=360)
        assert browser.value(hints) >= 1
        # A name that takes more than one line is twice as high.
        assert browser.value(
            "(n => n.getBoundingClientRect().height < 40)([...document.querySelectorAll('tbody th')]"
            ".find(e => e.innerText.includes('precision_weighted')))"
        )
        browser.open(page, width=1200)
        assert browser.value(hints) == 0
        # Tables take the place that there is.
        assert browser.value(
            "(t => t.getBoundingClientRect().width > .85 * t.closest('.card').getBoundingClientRect().width)"
            "(document.querySelector('.card table'))"
        )

    def test_hostile_names_run_nothing(self, browser: Browser, tmp_path: Path) -> None:
        writer = ArtifactWriter(tmp_path)
        evil_svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="200"><script>parent.document.title="pwned"'
            '</script><image href="http://127.0.0.1:9/x.png"/><rect width="200" height="200" '
            'onload="alert(1)"/></svg>'
        )
        writer.write("evil", "evil.svg", evil_svg)
        writer.write("errors", "errors.csv", "id\n" + "".join(json.dumps(text) + "\n" for text in EVIL))
        result = Result.model_validate(
            {
                "job_id": EVIL[1],
                "metrics": dict.fromkeys(EVIL, 0.5) | {f"f1/{text}": 0.5 for text in EVIL},
                "artifacts": writer.artifacts,
                "notes": EVIL,
            }
        )
        page = tmp_path / write_report(result, tmp_path).path
        browser.open(page)
        assert browser.requests() == [page.as_uri()]
        assert browser.complaints() == []
        assert "pwned" not in browser.value("document.title")
        assert browser.value("document.querySelectorAll('script, svg, iframe').length") == 0

    def test_the_policy_would_stop_what_slipped_through(self, browser: Browser, pages: list[Path]) -> None:
        html = pages[0].read_text()
        slip = '<script>document.title = "pwned"</script><img src="http://127.0.0.1:9/x.png">'
        pages[0].write_text(html.replace("<main>", f"<main>{slip}", 1))
        browser.open(pages[0])
        assert browser.value("document.title") != "pwned"
        assert len(browser.complaints()) == 2  # also: this harness does notice a complaint
        assert not browser.events("Network.responseReceived")[1:] or all(
            params["response"]["url"].startswith(("data:", "file:"))
            for params in browser.events("Network.responseReceived")
        )
        # Without the policy both would have worked.
        pages[0].write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", pages[0].read_text()))
        browser.open(pages[0])
        assert browser.value("document.title") == "pwned"
        assert "http://127.0.0.1:9/x.png" in browser.requests()
