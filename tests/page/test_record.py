"""A task on the records page: what came of it first, in words, with plots; all of it from Results that were scored."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from autoscorer.schemas.task import TaskState

from ..support.browser import CONTRAST, Browser
from ..support.browser import browser as browser
from ..support.facade import ADMIN, SUBMIT
from ..support.records_page import Done, click, scored, served, sign_in, text

pytestmark = pytest.mark.slow

FAILED: dict[str, Any] = {
    "code": "CONTAINER_FAILED",
    "message": "The model exited with code 1.",
    "stage": "execution",
    "details": {
        "exit_code": 1,
        "limits": {"memory": "512Mi", "cpu": 1.5},
        "log": ["Traceback (most recent call last):", '  File "/app/predict.py", line 3', "ValueError: 'é'\t\"x\""],
    },
}
READY = "document.querySelector('#detail .part dl')"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def test_a_scored_task_begins_with_metric_value_interval_threshold_and_direction(browser: Browser, root: Path) -> None:
    result = scored(root, "low", pass_threshold=0.95)
    with served(root, [Done("low", result=result)]) as (url, ids):
        browser.open(f"{url}/?lang=en#{ids['low']}", width=1300)
        browser.wait_for(READY)
        first = browser.value("[...document.querySelector('#detail').children].map(e => e.className)")
        assert first[0] == "hero"
        said = text(browser, ".hero")
        interval = result["intervals"]["f1_macro"]
        assert said.split("\n")[0] == "f1_macro"
        assert f"{result['summary']['score']:.4f}" in said
        assert f"95% interval {interval['low']:.4f} to {interval['high']:.4f}" in said
        assert "To pass: at least 0.95" in said and "Higher is better" in said and "not passed" in said
        # Rounded for reading, whole in the title.
        assert browser.value("document.querySelector('.hero data').title") == repr(result["summary"]["score"])
        browser.wait_for("document.querySelector('#detail figure')")
        order = browser.value("[...document.querySelectorAll('#detail h2')].map(e => e.innerText)")
        wanted = ["Plots", "Metrics", "Log", "Stages and resources", "Params", "Provenance"]
        assert [each for each in order if each in wanted] == wanted


def test_each_stage_is_shown_where_it_began_with_what_the_model_used(browser: Browser, root: Path) -> None:
    result = scored(root, "timed")
    result["timing"] = {
        "validate": 0.25,
        "queue": None,
        "pull": 1.0,
        "run": 2.75,
        "load": 0.5,
        "compute": 0.25,
        "save": 0.25,
        "total": 5.5,
    }
    result["resources"] = {
        "peak_memory_bytes": 3 << 20,
        "cpu_seconds": 2.5,
        "output_bytes": 2048,
        "output_files": 1,
        "exit_code": 0,
        "backend": "docker",
    }
    with served(root, [Done("timed", result=result)]) as (url, ids):
        browser.open(f"{url}/ui/record/{ids['timed']}?lang=en", width=1300)
        browser.wait_for(READY)
        rows = browser.value(
            "[...document.querySelectorAll('#stage-times tr')].slice(1)"
            ".map(r => [...r.cells].map(c => c.innerText.trim()))"
        )
        names = [
            ("validate", "250 ms"),
            ("pull", "1.0 s"),
            ("run", "2.8 s"),
            ("read", "500 ms"),
            ("compute", "250 ms"),
            ("artifacts", "250 ms"),
        ]
        # First the time that it waited for a worker, which is the ledger's to tell.
        assert rows[0][0] == "in the queue" and [tuple(row[:2]) for row in rows[1:]] == names
        bars = browser.value(
            "[...document.querySelectorAll('#stage-times .bar-value')]"
            ".map(b => [b.x.baseVal.value, b.width.baseVal.value])"
        )
        starts = [start for start, _ in bars]
        assert starts == sorted(starts) and starts[-1] > 90 and max(bars, key=lambda bar: bar[1]) == bars[3]
        said = text(browser, "#course dl")
        for part in ("5.5 s", "3.0 MiB", "2.5 s", "1 file, 2.0 KiB", "docker"):
            assert part in said


def test_a_metric_of_which_less_is_better_says_so(browser: Browser, root: Path) -> None:
    summary = {"score": 1.5, "rmse": 1.5, "pass": True, "rank": None, "higher_is_better": False}
    result = {"summary": summary, "metrics": {"rmse": 1.5}, "versioning": {"params": {"pass_threshold": 2}}}
    with served(root, [Done("r", result=result)]) as (url, ids):
        browser.open(f"{url}/?lang=en#{ids['r']}", width=390)
        browser.wait_for(READY)
        said = text(browser, ".hero")
        assert "To pass: at most 2" in said and "Lower is better" in said and "passed" in said


@pytest.mark.parametrize("tokens", [False, True])
def test_plots_are_shown_as_pictures_that_run_nothing(browser: Browser, root: Path, tokens: bool) -> None:
    result = scored(root, "plotted")
    (root / "plotted/output/artifacts/evil.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><desc>A &lt;b&gt; plot</desc>'
        "<script>parent.document.title = document.title = 'evil'</script></svg>"
    )
    (root / "plotted/output/artifacts/broken.png").write_bytes(b"no picture")
    for name in ("evil.svg", "broken.png"):
        content = (root / "plotted/output/artifacts" / name).read_bytes()
        path, digest = f"output/artifacts/{name}", hashlib.sha256(content).hexdigest()
        result["artifacts"][name] = {"path": path, "size": len(content), "sha256": digest}
    result["artifacts"]["gone.svg"] = {"path": "output/artifacts/gone.svg", "size": 1, "sha256": "0" * 64}
    with served(root, [Done("plotted", result=result)], tokens=tokens) as (url, ids):
        browser.open(f"{url}/?lang=en#{ids['plotted']}", width=1300)
        if tokens:
            sign_in(browser, ADMIN)
        browser.wait_for("document.querySelectorAll('#detail figure img').length === 3")
        browser.wait_for("document.querySelectorAll('#detail figure > p').length === 1")
        browser.wait_for("[...document.querySelectorAll('#detail figure img')].every(i => i.naturalWidth > 0)")
        alts = browser.value("[...document.querySelectorAll('#detail figure img')].map(i => i.alt)")
        assert "A <b> plot" in alts and all(alts)
        assert text(browser, "#detail figure > p").startswith("broken.png can't be shown")
        assert "gone.svg no longer kept" in text(browser, "#detail")
        assert browser.value("document.title") == "plotted · AutoScorer"


def test_a_plot_speaks_the_language_of_the_page(browser: Browser, root: Path) -> None:
    with served(root, [Done("plotted", result=scored(root, "plotted"))]) as (url, ids):
        browser.open(f"{url}/?lang=zh#{ids['plotted']}", width=1300)
        alts = "[...document.querySelectorAll('#detail figure img')].map(i => i.alt).join(' ')"
        browser.wait_for(f"/[\\u4e00-\\u9fff]/.test({alts})")
        click(browser, "#language")
        browser.wait_for(f"{alts}.includes('class') && !/[\\u4e00-\\u9fff]/.test({alts})")
        browser.value("localStorage.clear()")


def test_a_submit_token_sees_the_shared_plots(browser: Browser, root: Path) -> None:
    result = scored(root, "shared", rows=600)
    with served(root, [Done("shared", result=result)], tokens=True) as (url, ids):
        browser.open(f"{url}/?lang=en#{ids['shared']}", width=1300)
        sign_in(browser, SUBMIT)
        browser.wait_for(READY)
        shared = sum(item["path"].endswith(".svg") for item in result["disclosed"]["artifacts"].values())
        assert shared > 0
        browser.wait_for(f"document.querySelectorAll('#detail figure img').length === {shared}")
        assert "rows of the ground truth" in text(browser, "#detail")


def test_classes_beyond_the_first_dozen_are_folded_and_made_when_they_are_opened(browser: Browser, root: Path) -> None:
    result = scored(root, "many")
    plain = {name: value for name, value in result["metrics"].items() if "/" not in name}
    result["metrics"] = plain | {f"{kind}/c{n:03}": n / 7000 for n in range(300) for kind in ("f1", "precision")}
    with served(root, [Done("many", result=result)]) as (url, ids):
        browser.open(f"{url}/?lang=en#{ids['many']}", width=1300)
        browser.wait_for(READY)
        body = text(browser, "#detail")
        assert "c011" in body and "c012" not in body and "288 more classes" in body
        assert browser.value("document.querySelectorAll('.part details table').length") == 0
        browser.value("document.querySelector('.part details summary').focus()")
        browser.press(" ")
        browser.wait_for("document.querySelector('.part details table')")
        rows = browser.value(
            "[...document.querySelectorAll('.part details tbody tr')].map(r => [...r.children].map(c => c.innerText))"
        )
        assert len(rows) == 288 and rows[-1][0] == "c299" and rows[-1][1:] == ["0.0427", "0.0427"]


@pytest.mark.parametrize("width", [390, 1300])
def test_a_failure_is_told_in_sentences(browser: Browser, root: Path, width: int) -> None:
    problems = [
        {"code": "INVALID_META", "message": "timeout must be a number.", "stage": "validation", "details": {}},
        {"code": "MISSING_FILE", "message": "input/gt.csv is not there.", "stage": "validation", "details": {}},
    ]
    several = {
        "code": "INVALID_META",
        "message": "2 problems. INVALID_META: timeout must be a number. | MISSING_FILE: input/gt.csv is not there.",
        "stage": "validation",
        "details": {"problems": problems},
    }
    tasks = [Done("failed", TaskState.FAILED, error=FAILED), Done("wrong", TaskState.FAILED, error=several)]
    with served(root, tasks) as (url, ids):
        browser.open(f"{url}/?lang=en#{ids['failed']}", width=width)
        browser.wait_for(READY)
        said = text(browser, ".failure")
        for part in (
            "The model ended with an error",
            "The model exited with code 1.",
            "Cause\nThe submission",
            "What to do\nRead the last lines of the log below",
            "exit_code\n1",
            "memory\n512Mi",
            "Last lines of the log",
            "ValueError: 'é'\t\"x\"",
        ):
            assert part in said, (part, said)
        # No JSON: no braces, no escapes, no quoted keys.
        assert "{" not in said and '\\"' not in said and '"exit_code"' not in said
        assert browser.value("document.documentElement.scrollWidth") <= width
        browser.open(f"{url}/?lang=en#{ids['wrong']}", width=width)
        browser.wait_for(READY)
        said = text(browser, ".failure")
        assert "2 problems:" in said and said.count("timeout must be a number.") == 1
        assert browser.value("document.querySelectorAll('.failure li').length") == 2


def test_what_was_found_by_validate_is_told_without_json(browser: Browser, root: Path) -> None:
    found = {"valid": True, "files": {"input": 3, "rows": [1, 2]}, "warnings": ["one", "two"], "image": None}
    with served(root, [Done("v", action="validate", result=found)]) as (url, ids):
        browser.open(f"{url}/?lang=en#{ids['v']}", width=1300)
        browser.wait_for(READY)
        said = text(browser, "#detail")
        assert "valid\nyes" in said and "one, two" in said and "{" not in said


def test_what_somebody_looks_at_stays_when_the_task_changes(browser: Browser, root: Path) -> None:
    result = scored(root, "stays")
    result["metrics"] = {f"f1/c{n:03}": n / 70 for n in range(30)}
    with served(root, [Done("stays", result=result)]) as (url, ids):
        browser.open(f"{url}/?lang=en#{ids['stays']}", width=1300)
        browser.wait_for(READY)
        click(browser, ".part details summary")
        browser.wait_for("document.querySelector('.part details table')")
        focus = "[...document.querySelectorAll('#detail li a')].find(a => a.innerText === 'errors').focus()"
        browser.wait_for("[...document.querySelectorAll('#detail li a')].some(a => a.innerText === 'errors')")
        browser.value(focus)
        click(browser, "#language")
        browser.wait_for("document.documentElement.lang === 'zh-CN'")
        browser.wait_for("document.querySelector('.hero').innerText.includes('越高越好')")
        assert browser.value("document.activeElement.innerText") == "errors"
        assert browser.value("document.querySelector('.part details').open")
        assert browser.value("document.querySelector('.part details table') !== null")
        browser.value("localStorage.clear()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1300])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_view_reads_well(browser: Browser, root: Path, language: str, width: int, scheme: str) -> None:
    good = scored(root, "good", classes=20, rows=400, pass_threshold=0.5)
    low = scored(root, "low", pass_threshold=0.99)
    tasks = [Done("good", result=good), Done("low", result=low), Done("bad", TaskState.FAILED, error=FAILED)]
    with served(root, tasks) as (url, ids):
        for task in ("", "good", "low", "bad"):
            browser.open(f"{url}/?lang={language}#{ids.get(task, '')}", width=width, scheme=scheme)
            browser.wait_for(READY if task else "document.querySelectorAll('#rows tr').length === 3")
            assert browser.value("document.documentElement.scrollWidth") <= width
            assert browser.value(CONTRAST) == []
            complaints = [str(item) for item in browser.complaints()]
            assert [each for each in complaints if "/readyz" not in each] == []
