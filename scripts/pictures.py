"""Make the pictures of the documentation in ``docs/pictures``: scripts/pictures.

The picture of the architecture is drawn here, in each language, with colours for light and dark. The screenshots are of
a real installation on this machine: it is started, works on a few workspaces without Docker, and is stopped again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
AUTOSCORER = (sys.executable, "-m", "autoscorer")
TOKEN = "of-the-screenshots"
# What one screenshot may take: a reader waits for it.
MOST_BYTES = 150 * 1024


def main() -> int:
    """Make all of them; the exit code is 1 where a screenshot is larger than it may be."""
    PICTURES.mkdir(exist_ok=True)
    for language in ("en", "zh"):
        (PICTURES / f"architecture.{language}.svg").write_text(architecture(language), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, _records(Path(folder)) as (address, report):
        for name, page, height in (("records", f"{address}/#token={TOKEN}", 760), ("report", report.as_uri(), 1400)):
            _screenshot(page, PICTURES / f"{name}.png", height, Path(folder))
    large = [path.name for path in PICTURES.glob("*.png") if path.stat().st_size > MOST_BYTES]
    for path in sorted(PICTURES.iterdir()):
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")
    return 1 if large else 0


# --- the architecture -------------------------------------------------------------------------------------------

_BOXES: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "you": ("You", "command, browser,", "your program"),
        "api": ("API", "accepts, answers,", "never loses: ledger"),
        "prefect": ("Prefect server", "queue, schedules,", "states"),
        "worker": ("Worker", "a forked process", "for each run"),
        "workspace": ("Workspace", "meta.json, data,", "ground truth, model"),
        "sealed": ("Sealed container", "the model and the data;", "no ground truth, no network"),
        "scoring": ("Scoring process", "predictions against", "ground truth, by id"),
        "result": ("Result", "score, interval, report,", "provenance, or an error"),
    },
    "zh": {
        "you": ("你", "命令行、浏览器、", "你的程序"),
        "api": ("API", "接受、应答、", "不丢失：账本（ledger）"),
        "prefect": ("Prefect 服务器", "队列、定时、", "状态"),
        "worker": ("Worker", "每次运行", "一个 fork 出的进程"),
        "workspace": ("工作区", "meta.json、数据、", "真值、模型"),
        "sealed": ("密封容器", "只有模型和数据；", "没有真值，没有网络"),
        "scoring": ("评分进程", "预测与真值", "按 id 比较"),
        "result": ("Result", "得分、区间、报告、", "来源，或一个错误"),
    },
}
_ARROWS: dict[str, dict[str, str]] = {
    "en": {
        "http": "HTTP",
        "runs": "flow runs",
        "polls": "polls",
        "works": "works on",
        "local": "autoscorer pipeline: the same functions, without a service",
        "image": "image",
        "output": "output",
        "writes": "metrics",
    },
    "zh": {
        "http": "HTTP",
        "runs": "flow run",
        "polls": "轮询",
        "works": "处理",
        "local": "autoscorer pipeline：同样的函数，不需要服务",
        "image": "镜像",
        "output": "输出",
        "writes": "指标",
    },
}
_WIDE, _HIGH, _GAP = 200, 92, 68
_COLUMNS = [20 + number * (_WIDE + _GAP) for number in range(4)]
_UPPER, _LOWER = 24, 232
_STYLE = """
  .page { fill: #ffffff } .box { fill: #f4f6fa; stroke: #8a94a6 } .sealed { fill: #fdf1e3; stroke: #c77700 }
  .result { fill: #e8f5ec; stroke: #2f8f4e } .name { fill: #16202e; font-weight: 600; font-size: 16px }
  .text { fill: #44505f; font-size: 13px } .line { stroke: #5b6675; fill: none } .tip { fill: #5b6675 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0f151d } .box { fill: #1b2430; stroke: #5d6b7e } .sealed { fill: #33240f; stroke: #e0982f }
    .result { fill: #12291b; stroke: #4db36e } .name { fill: #eef2f7 } .text { fill: #b3bfcd }
    .line { stroke: #93a1b3 } .tip { fill: #93a1b3 }
  }
"""


def architecture(language: str) -> str:
    """The picture of the architecture, as SVG.

    Args:
        language: ``en`` or ``zh``.

    Returns:
        The document; it follows the reader's light or dark scheme.
    """
    boxes, words = _BOXES[language], _ARROWS[language]
    drawn: list[str] = []
    upper = ("you", "api", "prefect", "worker")
    lower = ("result", "scoring", "sealed", "workspace")
    for row, names in ((_UPPER, upper), (_LOWER, lower)):
        for x, name in zip(_COLUMNS, names, strict=True):
            drawn += _box(x, row, name if name in ("sealed", "result") else "box", boxes[name])
    for number, word in enumerate(("http", "runs", "polls")):
        start, end = _COLUMNS[number] + _WIDE, _COLUMNS[number + 1]
        # A worker asks the server; everything else is handed on.
        drawn += _arrow([(end, 70), (start, 70)] if word == "polls" else [(start, 70), (end, 70)])
        drawn += _text((start + end) / 2, 60, words[word])
    for number, word in enumerate(("writes", "output", "image")):
        start, end = _COLUMNS[number + 1], _COLUMNS[number] + _WIDE
        drawn += _arrow([(start, 278), (end, 278)])
        drawn += _text((start + end) / 2, 268, words[word])
    middle = [x + _WIDE / 2 for x in _COLUMNS]
    drawn += _arrow([(middle[3], _UPPER + _HIGH), (middle[3], _LOWER)])
    drawn += _text(middle[3] + 8, 150, words["works"], anchor="start")
    drawn += _arrow([(middle[0] - 40, _LOWER), (middle[0] - 40, _UPPER + _HIGH)])
    around = [(middle[0] + 40, _UPPER + _HIGH), (middle[0] + 40, 182), (middle[3] - 60, 182), (middle[3] - 60, _LOWER)]
    drawn += _arrow(around, dashed=True)
    drawn += _text((middle[0] + middle[3]) / 2, 174, words["local"])
    width, height = _COLUMNS[-1] + _WIDE + 20, 348
    label = "; ".join(" ".join(boxes[name]) for name in (*upper, *reversed(lower)))
    font = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans CJK SC', sans-serif"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
    return "\n".join(
        [
            f'{head} aria-label="{escape(label)}" font-family="{font}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="page" width="{width}" height="{height}" rx="10"/>',
            *drawn,
            "</svg>\n",
        ]
    )


def _box(x: float, y: float, kind: str, words: tuple[str, ...]) -> Iterator[str]:
    name, *lines = words
    yield f'<rect class="{kind}" x="{x}" y="{y}" width="{_WIDE}" height="{_HIGH}" rx="8" stroke-width="1.5"/>'
    yield from _text(x + _WIDE / 2, y + 30, name, kind="name")
    for number, line in enumerate(lines):
        yield from _text(x + _WIDE / 2, y + 54 + 20 * number, line)


def _text(x: float, y: float, text: str, kind: str = "text", anchor: str = "middle") -> Iterator[str]:
    yield f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _arrow(points: Sequence[tuple[float, float]], *, dashed: bool = False) -> Iterator[str]:
    (x0, y0), (x, y) = points[-2:]
    path = " ".join(f"{a:g},{b:g}" for a, b in points)
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    yield f'<polyline class="line" points="{path}" stroke-width="1.5"{dash}/>'
    dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
    left, right = (x - 9 * dx - 5 * dy, y - 9 * dy - 5 * dx), (x - 9 * dx + 5 * dy, y - 9 * dy + 5 * dx)
    yield f'<polygon class="tip" points="{x:g},{y:g} {left[0]:g},{left[1]:g} {right[0]:g},{right[1]:g}"/>'


# --- the screenshots --------------------------------------------------------------------------------------------


@contextmanager
def _records(folder: Path) -> Iterator[tuple[str, Path]]:
    """An installation with a few tasks: its address, and a report."""
    root = folder / "round-1"
    root.mkdir()
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "AUTOSCORER_"))}
    environment = {
        **clean,
        "AUTOSCORER_HOME": str(folder / "home"),
        "AUTOSCORER_WORKSPACE_ROOTS": str(root),
        "AUTOSCORER_API_TOKENS": f"admin:{TOKEN}",
        "AUTOSCORER_API_TOKEN": TOKEN,
    }

    def run(*arguments: str, code: int = 0) -> None:
        done = subprocess.run([*AUTOSCORER, *arguments], env=environment, cwd=root, capture_output=True, text=True)
        if done.returncode != code:
            raise SystemExit(f"autoscorer {' '.join(arguments)}:\n{done.stdout}{done.stderr}")

    # With the predictions that their models have made: nothing unsealed is run for the report.
    for task in ("classification", "regression", "detection"):
        shutil.copytree(ROOT / "examples" / task, root / f"team-a-{task}")
    run("init", "team-b-flowers")
    run("init", "team-c-flowers")
    command = [*AUTOSCORER, "up", "--api-port", "0", "--prefect-port", "0", "--json"]
    with subprocess.Popen(command, env=environment, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as up:
        try:
            assert up.stdout is not None
            # One object over several lines, whose last one is its brace.
            said = b"".join([*iter(up.stdout.readline, b"}\n"), b"}"])
            address = str(json.loads(said)["data"]["api"])
            environment["AUTOSCORER_API_URL"] = address
            for name in ("team-a-regression", "team-a-detection", "team-a-classification"):
                run("submit", name, "--action", "score", "--wait")
            run("submit", "team-b-flowers", "--backend", "process", "--wait")
            predictions = root / "team-c-flowers" / "output" / "pred.csv"
            predictions.parent.mkdir(exist_ok=True)
            lines = (root / "team-b-flowers" / "output" / "pred.csv").read_text().splitlines(keepends=True)
            predictions.write_text("".join(lines[:-1]))
            run("submit", "team-c-flowers", "--action", "score", "--wait", code=1)
            yield address, root / "team-a-regression" / "output" / "artifacts" / "report.html"
        finally:
            up.terminate()
            up.wait(120)


def _screenshot(page: str, file: Path, height: int, folder: Path) -> None:
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        raise SystemExit("There is no chromium to make the screenshots with.")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=0.75")
    size = ("--window-size=1080," + str(height), "--virtual-time-budget=8000", f"--user-data-dir={folder / 'profile'}")
    subprocess.run(
        [browser, *options, *size, f"--screenshot={file}", page],
        env={**os.environ, "LANG": "en_US.UTF-8"},
        stderr=subprocess.DEVNULL,
        timeout=180,
        check=True,
    )


if __name__ == "__main__":
    sys.exit(main())
