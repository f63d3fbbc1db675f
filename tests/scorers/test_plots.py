"""The plots: well-formed whatever the labels are, true to the numbers, small, and the same bytes every time."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.scorers.classification import ClassificationF1
from autoscorer.scorers.plots.axes import nice_ticks, tick_labels
from autoscorer.scorers.plots.curves_and_bars import confusion_matrix_svg, per_class_svg, pr_curves_svg, residual_svg
from autoscorer.scorers.plots.svg import OwnName, ramp_css, shorten
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ..support.examples import examples

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "<script>alert(1)</script>",
    '"><image href="http://evil.example/x"/>',
    "]]>&amp;&#0;",
    "\x00\x07\x1b[31m",
    "\ud800 lone surrogate",
    "\ufffe\uffff\x85",
    "\u202egnp.exe\u2066",
    "日本語のラベル",
    "تسمية عربية",
    "x" * 5000,
    "e" + "\u0301" * 4000,
    "👩‍👩‍👧‍👦",
    "",
    "  \n",
]

# Surrogates too: a label may come from anywhere.
any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=60) | st.sampled_from(HOSTILE)


def parse(svg: str) -> ET.Element:
    """Parse as strict XML from bytes, and check what every plot promises."""
    root = ET.fromstring(svg.encode("utf-8"))
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    _, _, width, height = map(float, root.get("viewBox", "").split())
    assert 0 < width < 3000
    assert 0 < height < 3000
    assert root.findtext(f"{SVG}title")
    assert root.findtext(f"{SVG}desc")
    allowed = {"svg", "title", "desc", "style", "rect", "path", "text", "g"}
    for element in root.iter():
        assert element.tag.removeprefix(SVG) in allowed
        for name, value in element.attrib.items():
            assert not name.lower().startswith("on")
            assert "href" not in name
            assert "url(" not in value
            assert "nan" not in value.lower().replace("sans", "")
            assert "inf" not in value.lower()
    assert "url(" not in svg.split("<rect", 1)[0]
    assert "@import" not in svg
    return root


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in parse(svg).iter(f"{SVG}text")]


class TestConfusionMatrix:
    def test_every_count_is_written(self) -> None:
        matrix = np.array([[50, 3, 0], [2, 1234, 4], [0, 0, 7]])
        seen = texts(confusion_matrix_svg(["a", "b", "c"], matrix))
        assert {"50", "3", "2", "1,234", "4", "7"} <= set(seen)
        assert {"94.3 %", "5.7 %", "100 %"} <= set(seen)  # 50 / 53, 3 / 53, 7 / 7
        assert seen.count("a") == 2  # once a row, once a column
        assert {"True class", "Predicted class"} <= set(seen)

    def test_a_share_never_rounds_to_all_or_nothing(self) -> None:
        seen = texts(confusion_matrix_svg(["a", "b"], np.array([[999_999, 1], [0, 5]])))
        assert {">99.9 %", "<0.1 %"} <= set(seen)

    @pytest.mark.parametrize("n", [0, 1, 2, 10, 40])
    def test_all_classes_are_shown_up_to_forty(self, n: int) -> None:
        rng = np.random.default_rng(n)
        seen = texts(confusion_matrix_svg([f"c{i}" for i in range(n)], rng.integers(0, 90, (n, n))))
        assert sum(bool(re.fullmatch(r"c\d+", text)) for text in seen) == 2 * n

    def test_above_forty_the_most_confused_are_shown_and_it_says_so(self) -> None:
        matrix = np.diag(np.full(100, 50))
        matrix[7, 93], matrix[93, 7], matrix[55, 56] = 20, 9, 30
        svg = confusion_matrix_svg([f"c{i}" for i in range(100)], matrix)
        seen = texts(svg)
        assert any("40 most confused of 100 classes" in text for text in seen)
        assert any("100 % of all mistakes" in text for text in seen)
        assert {"c7", "c93", "c55", "c56"} <= set(seen)
        assert sum(bool(re.fullmatch(r"c\d+", text)) for text in seen) == 80

    def test_colours_of_a_part_are_still_shares_of_the_whole_row(self) -> None:
        matrix = np.zeros((41, 41))
        matrix[0, 1:] = 1  # 40 mistakes of class 0 in 40 columns: the one left out still counts
        matrix[0, 0] = 10
        svg = confusion_matrix_svg([str(i) for i in range(41)], matrix)
        assert 'class="b2"' in svg  # 10 / 50 is the second tenth; of what is shown it would be the third

    def test_wrong_shape_is_refused(self) -> None:
        with pytest.raises(AutoScorerError, match="2 × 2") as caught:
            confusion_matrix_svg(["a", "b"], np.zeros((2, 3)))
        assert caught.value.code is ErrorCode.SCORER_ERROR

    @settings(max_examples=examples(40), deadline=None)
    @given(st.data())
    def test_always_well_formed(self, data: st.DataObject) -> None:
        n = data.draw(st.integers(0, 6))
        labels = data.draw(st.lists(any_text, min_size=n, max_size=n))
        parse(confusion_matrix_svg(labels, data.draw(hnp.arrays(np.float64, (n, n)))))


class TestResiduals:
    def test_the_panels_say_which_way_round_they_are(self) -> None:
        seen = texts(residual_svg(np.array([1.0, 2.0, 3.0]), np.array([1.1, 1.9, 3.0])))
        assert {"true value", "predicted value", "true − predicted", "3 rows."} <= set(seen)

    def test_a_positive_residual_is_drawn_above_zero(self) -> None:
        root = parse(residual_svg(np.array([10.0]), np.array([4.0])))
        dots = [e.get("d", "") for e in root.iter(f"{SVG}path") if e.get("stroke-linecap") == "round"]
        zero = next(e for e in root.iter(f"{SVG}path") if e.get("stroke-dasharray")).get("d", "")
        zero_line = float(zero.rsplit(" ", 1)[1].split("H")[0])
        assert float(dots[1].split(" ")[1].split("h")[0]) < zero_line  # SVG's y grows downwards
        # The prediction is too low: right of and under the diagonal.
        x, y = map(float, dots[0].removeprefix("M").removesuffix("h0").split())
        (left, bottom), (right, top) = re.findall(r"([\d.]+) ([\d.]+)", zero.split("M")[1])
        on_diagonal = float(bottom) + (x - float(left)) / (float(right) - float(left)) * (float(top) - float(bottom))
        assert y > on_diagonal

    def test_many_rows_are_counted_in_cells_and_stay_small(self) -> None:
        rng = np.random.default_rng(1)
        truth = rng.normal(size=300_000)
        svg = residual_svg(truth, truth + rng.normal(size=300_000))
        assert "300,000 rows, counted in small cells." in texts(svg)
        assert len(svg) < 60_000
        assert len(residual_svg(truth[:2000], truth[:2000] * 0.5)) < 100_000

    def test_every_row_is_in_a_cell(self) -> None:
        # All rows in one place: that cell's colour and the legend hold the whole count.
        svg = residual_svg(np.full(5000, 3.0), np.full(5000, 3.0))
        assert "5,000" in texts(svg)

    @pytest.mark.parametrize(
        ("truth", "predicted"),
        [
            ([], []),
            ([1.0], [1.0]),
            ([0.0] * 9, [0.0] * 9),
            ([1e9] * 3000, [1e9] * 3000),
            ([1e300, np.nan, 2.0], [np.inf, 1.0, 2.0]),
            ([5e-324, 0.0], [0.0, 5e-324]),
            ([1e149, -1e149], [-1e149, 1e149]),
            ([1e16, 1e16 + 2], [1e16, 1e16]),
        ],
        ids=["none", "one", "zeros", "same", "not finite", "subnormal", "huge", "tiny spread"],
    )
    def test_extreme_values(self, truth: list[float], predicted: list[float]) -> None:
        parse(residual_svg(np.array(truth), np.array(predicted)))

    def test_left_out_rows_are_told(self) -> None:
        assert "1 rows; 2 too large or not finite left out." in texts(
            residual_svg(np.array([1.0, np.nan, 1.0]), np.array([1.0, 1.0, np.inf]))
        )

    def test_different_lengths_are_refused(self) -> None:
        with pytest.raises(AutoScorerError, match="got 1 and 2"):
            residual_svg(np.zeros(2), np.zeros(1))

    @settings(max_examples=examples(60), deadline=None)
    @given(hnp.arrays(np.float64, st.tuples(st.just(2), st.integers(0, 8))))
    def test_always_well_formed(self, values: np.ndarray) -> None:
        parse(residual_svg(values[0], values[1]))


class TestCurves:
    recall = np.linspace(0, 1, 101)

    def test_absent_values_break_the_line(self) -> None:
        curve = 1 - self.recall * 0.5
        curve[40:50], curve[70:80] = -1, np.nan
        root = parse(pr_curves_svg(self.recall, {"a": curve}, title="PR"))
        line = max((e.get("d", "") for e in root.iter(f"{SVG}path") if e.get("class") == "k0"), key=len)
        assert line.count("M") == 3

    def test_a_curve_without_data_is_in_the_legend_and_says_so(self) -> None:
        svg = pr_curves_svg(self.recall, {"dog": np.full(101, -1.0), "cat": self.recall[::-1]}, title="PR")
        assert "dog (no data)" in texts(svg)
        assert "cat" in texts(svg)

    def test_a_mean_is_told_from_the_curves_that_it_is_of(self) -> None:
        svg = pr_curves_svg(self.recall, {OwnName("mean of 2 categories"): self.recall, "cat": self.recall}, title="PR")
        widths = [each.get("stroke-width") for each in parse(svg).iter() if each.tag.endswith("path")]
        # In the plot and in its legend.
        assert widths.count("4") == 2 and widths.count("2") == 2

    def test_no_curve_at_all(self) -> None:
        assert "No curve is defined." in texts(pr_curves_svg(self.recall, {}, title="PR"))

    def test_ten_curves_are_told_apart_and_more_are_announced(self) -> None:
        svg = pr_curves_svg(self.recall, {f"c{i}": self.recall[::-1] * (i / 12) for i in range(12)}, title="PR")
        strokes = {(e.get("class"), e.get("stroke-dasharray")) for e in parse(svg).iter(f"{SVG}path")}
        assert len({s for s in strokes if str(s[0]).startswith("k")}) == 10
        assert "The first 10 of 12 curves." in texts(svg)

    def test_simplified_line_keeps_its_corners(self) -> None:
        steps = np.where(self.recall < 0.5, 1.0, 0.25)
        root = parse(pr_curves_svg(self.recall, {"a": steps}, title="PR"))
        line = max((e.get("d", "") for e in root.iter(f"{SVG}path") if e.get("class") == "k0"), key=len)
        assert len(re.findall(r"[\d.]+", line)) == 8  # four corners

    def test_wrong_length_is_refused(self) -> None:
        with pytest.raises(AutoScorerError, match="101 points"):
            pr_curves_svg(self.recall, {"a": np.zeros(3)}, title="PR")

    @settings(max_examples=examples(40), deadline=None)
    @given(st.dictionaries(any_text, hnp.arrays(np.float64, 4), max_size=12), any_text)
    def test_always_well_formed(self, curves: dict[str, np.ndarray], title: str) -> None:
        parse(pr_curves_svg(np.array([0.0, 0.3, 0.6, 1.0]), curves, title=title))


class TestPerClass:
    def test_bars_are_as_long_as_their_values(self) -> None:
        root = parse(per_class_svg(["a", "b", "c"], [0.25, 1.0, None], title="F1"))
        bars = next(e.get("d", "") for e in root.iter(f"{SVG}path") if e.get("class") == "a")
        assert re.findall(r"h(\d+)v", bars) == ["90", "360"]

    def test_undefined_is_not_zero(self) -> None:
        seen = texts(per_class_svg(["a", "b"], [None, 0.0], title="F1"))
        assert "undefined" in seen
        assert "0" in seen
        assert "1 undefined." in seen

    def test_many_classes_show_the_lowest(self) -> None:
        seen = texts(per_class_svg([f"c{i}" for i in range(90)], [i / 90 for i in range(90)][::-1], title="AP"))
        assert "The 40 lowest of 90 classes." in seen
        assert "c89" in seen
        assert "c0" not in seen

    def test_different_lengths_are_refused(self) -> None:
        with pytest.raises(AutoScorerError, match="one value a label"):
            per_class_svg(["a"], [], title="F1")

    @settings(max_examples=examples(60), deadline=None)
    @given(st.lists(st.tuples(any_text, st.none() | st.floats()), max_size=50), any_text)
    def test_always_well_formed(self, rows: list[tuple[str, float | None]], title: str) -> None:
        parse(per_class_svg([label for label, _ in rows], [value for _, value in rows], title=title))


@pytest.mark.parametrize("label", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_labels_are_shown_and_harmless(label: str) -> None:
    for svg in (
        confusion_matrix_svg([label, "b"], np.eye(2)),
        per_class_svg([label], [0.5], title=label),
        pr_curves_svg(np.linspace(0, 1, 3), {label: np.ones(3)}, title=label),
    ):
        assert len(svg) < 20_000
        assert shorten(label, 24) in texts(svg) or shorten(label, 26) in texts(svg) or shorten(label, 28) in texts(svg)


@given(st.floats(-1e150, 1e150), st.floats(1e-150, 1e150), st.integers(4, 10))
def test_ticks_are_few_inside_and_told_apart(low: float, span: float, count: int) -> None:
    span = max(span, abs(low) * 1e-9)
    ticks = nice_ticks(low, low + span, count)
    assert 1 <= len(ticks) <= count + 2
    slack = span * 1e-6
    assert all(low - slack <= tick <= low + span + slack for tick in ticks)
    labels = tick_labels(ticks)
    assert len(set(labels)) == len(labels)


def _contrast(a: str, b: str) -> float:
    """WCAG 2.2 contrast ratio of two #rrggbb colours."""

    def luminance(colour: str) -> float:
        full = colour if len(colour) == 7 else "#" + "".join(c * 2 for c in colour[1:])
        parts = [int(full[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("kind", ["b", "o"])
def test_numbers_on_every_colour_can_be_read(kind: str) -> None:
    for block in ramp_css(kind, range(1, 11)).split("@media"):
        fills = dict(re.findall(rf"\.{kind}(\d+){{fill:(#\w+)}}", block))
        inks = dict(re.findall(rf"\.{kind}t(\d+){{fill:(#\w+)}}", block))
        assert len(fills) == len(inks) == 10
        assert min(_contrast(fills[level], inks[level]) for level in fills) >= 4.5


def test_same_input_same_bytes() -> None:
    code = (
        "import numpy as np, hashlib\n"
        "from autoscorer.scorers.plots.curves_and_bars import *\n"
        "r = np.random.default_rng(0)\n"
        "t = r.normal(size=5000)\n"
        "out = confusion_matrix_svg(list('abc'), r.integers(0, 9, (3, 3))) + residual_svg(t, t * .9)\n"
        "out += pr_curves_svg(np.linspace(0, 1, 5), {'x': np.ones(5)}, title='t')\n"
        "out += per_class_svg(['a'], [.1], title='t')\n"
        "print(hashlib.sha256(out.encode()).hexdigest())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_importing_the_plots_imports_no_library() -> None:
    code = (
        "import sys; import autoscorer.scorers.plots.curves_and_bars; "
        "print(*{'numpy', 'pandas', 'sklearn', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == ""


def test_any_accepts_plain_lists() -> None:
    values: Any = [1, 2, 3]
    parse(residual_svg(values, values))
    parse(confusion_matrix_svg(("a",), [[4]]))  # type: ignore[arg-type]


def test_what_plots_of_a_thousand_classes_say_is_true_of_all_of_them(tmp_path):
    """They were made of the 200 most frequent classes, and told of those as if they were all."""
    rng = np.random.default_rng(3)
    size, n = 1000, 50_000
    # Frequent classes are seldom wrong, rare ones often: the most frequent 200 say little of the mistakes.
    frequency = 1 / np.arange(1, size + 1)
    truth = np.concatenate([np.arange(size), rng.choice(size, n - size, p=frequency / frequency.sum())])
    wrong = rng.random(n) < 0.05 + 0.9 * truth / size
    predicted = np.where(wrong, rng.integers(0, size, n), truth)
    for folder, name, values in (("input", "gt", truth), ("output", "pred", predicted)):
        (tmp_path / folder).mkdir()
        lines = (f"{i},kind{value:04d}\n" for i, value in enumerate(values.tolist()))
        (tmp_path / folder / f"{name}.csv").write_text("id,label\n" + "".join(lines))
    ClassificationF1().score(tmp_path, {})

    matrix = np.zeros((size, size), int)
    np.add.at(matrix, (truth, predicted), 1)
    mistakes = matrix.sum(0) + matrix.sum(1) - 2 * np.diag(matrix)
    shown = np.sort(np.argsort(-mistakes, kind="stable")[:40])
    inside = matrix[np.ix_(shown, shown)]
    share = 100 * (inside.sum() - inside.trace()) / (n - matrix.trace())
    svg = (tmp_path / "output" / "artifacts" / "confusion_matrix.svg").read_text()
    assert "The 40 most confused of 1,000 classes; 50,000 rows in all." in svg
    assert f"{share:.0f} % of all mistakes are between them" in svg
    assert {f"kind{index:04d}" for index in shown} == set(re.findall(r"kind\d{4}", svg))

    f1 = 2 * np.diag(matrix) / (matrix.sum(0) + matrix.sum(1))
    worst = {f"kind{index:04d}" for index in np.argsort(f1, kind="stable")[:40]}
    svg = (tmp_path / "output" / "artifacts" / "per_class.svg").read_text()
    assert "The 40 lowest of 1,000 classes." in svg
    assert set(re.findall(r"kind\d{4}", svg)) == worst
