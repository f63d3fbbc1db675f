"""The views of benchmarks and workspaces: what they show is what the API answers, and to whom it answers that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from autoscorer.core.benchmark import BenchmarkFolder
from autoscorer.tasks.score import score_workspace

from ..support.benchmarks import change_spec, rows, write_benchmark
from ..support.benchmarks import submit as hand_in
from ..support.browser import CONTRAST, Browser
from ..support.browser import browser as browser
from ..support.records_page import Done, click, put, served, text
from ..support.teams import TOKENS, Benches, serving
from ..support.workspaces import write_workspace

pytestmark = pytest.mark.slow

USAGE = "id,label,Usage\na,x,Public\nb,y,Public\nc,x,Private\nd,y,Private\n"
HOSTILE = "<img src=x onerror=alert(1)>"
FAR = "2999-12-31T23:59:00Z"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def flowers(root: Path) -> BenchmarkFolder:
    """A benchmark with a team that is alone in front, and two that share a place."""
    made = write_benchmark(
        root,
        "flowers",
        title="Flowers",
        description="Tell flowers apart.",
        phases=[{"name": "final", "close": FAR}],
        quota={"per_day": 3, "total": 4},
        leaderboard={"choose": "chosen"},
    )
    for team, labels in (("team-a", "yyxx"), ("team-a", "xyxx"), ("team-b", "xyxy"), ("twin", "yyxy")):
        hand_in(made, rows(labels), team=team, label=f"{HOSTILE} of {team}")
    return made


@pytest.fixture
def benches(root: Path, flowers: BenchmarkFolder) -> Iterator[Benches]:
    with serving(root) as benches:
        yield benches


def looks(page: Browser, benches: Benches, who: str, path: str, *, width: int = 1300, scheme: str = "light") -> None:
    """Open a view with somebody's token, in English."""
    page.open(benches.api.url + "/healthz")
    page.value(f"sessionStorage.setItem('autoscorer-token', {json.dumps(TOKENS[who])})")
    page.open(benches.api.url + path + ("&" if "?" in path else "?") + "lang=en", width=width, scheme=scheme)
    page.wait_for("document.querySelector('h1')")


def cells(page: Browser, selector: str) -> list[str]:
    return list(page.value(f"[...document.querySelectorAll({json.dumps(selector)})].map(c => c.innerText.trim())"))


def values(page: Browser, selector: str) -> list[float]:
    """Numbers with all their digits."""
    return list(page.value(f"[...document.querySelectorAll({json.dumps(selector + ' data')})].map(c => +c.value)"))


def saved(page: Browser, button: str) -> str:
    """The file that a button gives to the browser."""
    page.value(
        "window.given = null; URL.createObjectURL = (blob) => { blob.text().then(t => { given = t; }); return '#'; }"
    )
    click(page, button)
    page.wait_for("given !== null")
    return str(page.value("given"))


# --- benchmarks ------------------------------------------------------------------------------------------------------


def test_the_list_says_until_when_how_often_and_who_is_first(browser: Browser, benches: Benches) -> None:
    (write_benchmark(benches.root, "dogs").root / "benchmark.json").write_text("{")
    benches.hand_in("team-a", rows("xyxx"))
    looks(browser, benches, "team-a", "/ui/benchmarks")
    browser.wait_for("document.querySelector('[data-name=flowers] [data-key=own]')?.innerText")
    row = "[data-name=flowers] [data-key={}]"
    said = {key: text(browser, row.format(key)) for key in ("name", "open", "phase", "deadline", "own", "left")}
    assert said["name"].split("\n") == ["Flowers", "flowers"] and said["open"] == "open" and said["phase"] == "final"
    assert "2999" in said["deadline"] and said["left"] == "2 today, 3 in all"
    assert values(browser, row.format("best")) == [1.0] and said["own"].split("\n") == ["0.7500", "place 2"]
    assert "not usable" in text(browser, "[data-name=dogs] [data-key=open]")
    # What is a team's alone is not in others' list.
    looks(browser, benches, "admin", "/ui/benchmarks")
    browser.wait_for("document.querySelector('[data-name=flowers] [data-key=best] data')")
    assert browser.value("document.querySelector('[data-key=left], [data-key=own]')") is None
    click(browser, row.format("name") + " a")
    browser.wait_for("location.pathname === '/ui/benchmark/flowers' && document.title.startsWith('Flowers')")


@pytest.mark.parametrize(
    ("phases", "is_open", "told"),
    [
        ([], True, {"phase": None}),
        ([{"name": "a"}], True, {"phase": "a"}),
        ([{"name": "a", "close": "2000-01-01T00:00:00Z"}], False, {"phase": None}),
        ([{"name": "a", "close": "2000-01-01T00:00:00Z", "late": "accept"}], True, {"phase": "a", "isLate": True}),
        (
            [{"name": "a", "close": "2000-01-01T00:00:00Z", "late": "accept"}, {"name": "b", "close": FAR}],
            True,
            {"phase": "b", "deadline": FAR},
        ),
        (
            [{"name": "a", "close": "2000-01-01T00:00:00Z"}, {"name": "b", "open": FAR}],
            False,
            {"phase": "b", "next": FAR},
        ),
    ],
    ids=["none", "always", "over", "late", "second", "coming"],
)
def test_the_phase_that_is_shown_is_the_one_that_a_submission_would_be_of(
    browser: Browser, benches: Benches, phases: list[dict[str, str]], is_open: bool, told: dict[str, object]
) -> None:
    change_spec(BenchmarkFolder(benches.root / "flowers"), phases=phases)
    view = benches.call("admin", "GET", "/benchmarks/flowers").data
    assert view["is_open"] == is_open
    browser.open(benches.api.url)
    found = browser.value(f"import('/static/parts/benchmark.js').then(m => m.phaseOf({json.dumps(view)}))")
    name = found["phase"]["name"] if found["phase"] else None
    assert {**{key: value for key, value in found.items() if value is not None}, "phase": name} == told


def test_the_board_is_the_apis_with_ties_and_ones_own_row(browser: Browser, benches: Benches) -> None:
    looks(browser, benches, "team-a", "/ui/benchmark/flowers")
    browser.wait_for("document.querySelectorAll('.board tbody tr').length === 3")
    told = benches.call("team-a", "GET", "/benchmarks/flowers/leaderboard").data["rows"]
    assert cells(browser, ".board .place") == ["1", "=2", "=2"]
    assert cells(browser, ".board tbody th a") == [row["team"] for row in told]
    assert values(browser, ".board tbody td:nth-of-type(2)") == [row["score"] for row in told]
    assert cells(browser, ".board tr.own th") == ["team-a you"]
    # Every bar says its interval, and they have one scale.
    bars = browser.value("[...document.querySelectorAll('.board svg')].map(s => s.getAttribute('aria-label'))")
    assert len(bars) == 3 and all("–" in bar for bar in bars)
    # Of the others, not what only they may know; and what they wrote is text.
    lines = saved(browser, "#board-csv").split("\r\n")
    assert lines[0].endswith("place,team,score,low,high,metric,number,label,submissions,submitted_at,version")
    assert (
        lines[1].startswith("1,team-b,1,")
        and lines[2].startswith("2,team-a,0.75,")
        and f"{HOSTILE} of team-a" in lines[2]
    )
    assert f"{HOSTILE} of team-b" not in "".join(lines)
    assert browser.value("document.querySelector('main img')") is None and HOSTILE in text(browser, ".board")
    assert text(browser, "#submit") == "Submit"
    assert (
        browser.value("document.querySelector('#submit').getAttribute('href')")
        == "/ui/submit?lang=en&benchmark=flowers"
    )


def test_a_teams_course_is_shown_to_its_organiser_and_not_to_other_teams(browser: Browser, benches: Benches) -> None:
    looks(browser, benches, "flowers", "/ui/benchmark/flowers")
    browser.wait_for("document.querySelectorAll('#submissions tbody tr').length === 4")
    assert browser.value("document.querySelector('#submissions svg')") is None
    browser.value("[...document.querySelectorAll('.board a')].find(a => a.innerText === 'team-a').click()")
    browser.wait_for("document.querySelectorAll('#submissions tbody tr').length === 2")
    assert browser.value("location.search") == "?lang=en&team=team-a"
    assert browser.value("document.querySelectorAll('#submissions circle').length") == 2
    assert browser.value("document.querySelectorAll('#submissions polygon').length") == 1
    assert browser.value("document.activeElement.id") == "submissions-title"
    told = benches.call("flowers", "GET", "/benchmarks/flowers/submissions?team=team-a").data["submissions"]
    assert values(browser, "#submissions tbody [data-key=score]") == [each["score"] for each in told] == [0.75, 0.5]
    browser.value("history.back()")
    browser.wait_for("document.querySelectorAll('#submissions tbody tr').length === 4")
    looks(browser, benches, "team-b", "/ui/benchmark/flowers?team=team-a")
    browser.wait_for("document.querySelector('#submissions .empty')")
    assert "sees no submissions of this team" in text(browser, "#submissions")


def test_the_withheld_part_is_shown_to_an_organiser_and_refused_to_a_team(browser: Browser, root: Path) -> None:
    dogs = write_benchmark(root, "dogs", truth=USAGE, withheld={"column": "Usage"})
    hand_in(dogs, rows("xyyx"), team="team-a")
    with serving(root) as benches:
        looks(browser, benches, "dogs", "/ui/benchmark/dogs")
        browser.wait_for("document.querySelector('.board tbody')")
        assert values(browser, ".board td:nth-of-type(2)") == [1.0]
        browser.value("[...document.querySelectorAll('.tabs a')][1].click()")
        browser.wait_for("document.querySelector('.board td:nth-of-type(2) data')?.value === '0'")
        assert browser.value("location.search") == "?lang=en&part=private"
        looks(browser, benches, "team-a", "/ui/benchmark/dogs?part=private")
        browser.wait_for("document.querySelector('#board [role=alert]')")
        assert (
            "not released yet" in text(browser, "#board") and browser.value("document.querySelector('.board')") is None
        )


def test_a_team_chooses_the_submission_that_counts(browser: Browser, benches: Benches) -> None:
    looks(browser, benches, "team-a", "/ui/benchmark/flowers")
    browser.wait_for("document.querySelector('[data-number=\"1\"] .choose')")
    assert text(browser, '[data-number="2"] [data-key=counts]') == "counts"
    click(browser, '[data-number="1"] .choose')
    browser.wait_for("document.querySelector('[data-number=\"2\"] .choose')")
    assert text(browser, '[data-number="1"] [data-key=counts]') == "counts"
    told = benches.call("team-a", "GET", "/benchmarks/flowers/leaderboard").data["rows"]
    assert [(row["number"], row["score"]) for row in told if row["team"] == "team-a"] == [(1, 0.5)]
    # Where the board goes by the best, there is nothing to choose.
    change_spec(BenchmarkFolder(benches.root / "flowers"), leaderboard={"choose": "best"})
    looks(browser, benches, "team-a", "/ui/benchmark/flowers")
    browser.wait_for("document.querySelectorAll('#submissions tbody tr').length === 2")
    assert browser.value("document.querySelector('.choose')") is None


def test_where_the_board_alone_tells_of_scores_the_page_tells_no_others(browser: Browser, benches: Benches) -> None:
    change_spec(BenchmarkFolder(benches.root / "flowers"), leaderboard={"margin": 0.3})
    hand_in(BenchmarkFolder(benches.root / "flowers"), rows("xyxx"), team="team-a")
    looks(browser, benches, "team-a", "/ui/benchmark/flowers")
    browser.wait_for("document.querySelectorAll('#submissions tbody tr').length === 3")
    assert text(browser, '[data-number="3"] [data-key=score]') == "told by the leaderboard"
    assert "0.75" not in text(browser, "main")


def test_a_public_board_is_shown_without_a_token_and_no_other_is(browser: Browser, benches: Benches) -> None:
    address = f"{benches.api.url}/ui/benchmark/flowers?view=public&lang=en"
    browser.open(benches.api.url + "/healthz")
    browser.value("sessionStorage.clear()")
    browser.open(address)
    browser.wait_for("document.querySelector('[role=alert]')")
    assert "no public leaderboard" in text(browser, "[role=alert]") and "Flowers" not in text(browser, "main")
    change_spec(BenchmarkFolder(benches.root / "flowers"), leaderboard={"public": True})
    browser.open(address)
    browser.wait_for("document.querySelectorAll('.board tbody tr').length === 3")
    assert cells(browser, ".board tbody th") == ["team-b", "team-a", "twin"]
    assert HOSTILE not in text(browser, "main") and browser.value("document.querySelector('#submissions')") is None
    # What is more takes a token.
    browser.value("document.querySelector('article > p:last-child a').click()")
    browser.wait_for("document.querySelector('#sign-in')")
    looks(browser, benches, "flowers", "/ui/benchmark/flowers")
    browser.wait_for("document.querySelector('#public')")
    click(browser, "#public")
    browser.wait_for(
        "new URLSearchParams(location.search).get('view') === 'public' && document.querySelector('.board')"
    )


def test_what_is_not_there_and_what_can_not_be_used_is_said(browser: Browser, benches: Benches) -> None:
    looks(browser, benches, "admin", "/ui/benchmark/cats")
    browser.wait_for("document.querySelector('[role=alert]')")
    assert "cats" in text(browser, "[role=alert]")
    (benches.root / "flowers" / "benchmark.json").write_text("{")
    looks(browser, benches, "admin", "/ui/benchmark/flowers")
    browser.wait_for("document.querySelector('[role=alert]')")
    assert "not usable" in text(browser, "[role=alert]")
    looks(browser, benches, "admin", "/ui/workspace/nowhere")
    browser.wait_for("document.querySelector('[role=alert]')")
    assert browser.value("document.querySelector('#delete')") is None


def test_a_batchs_board_looks_the_same_and_is_saved_as_a_csv(browser: Browser, root: Path) -> None:
    outcomes = [
        {
            "workspace": str(root / name),
            "state": "completed",
            "metric": "f1",
            "score": score,
            "interval": {"low": score - 0.1, "high": score + 0.1, "level": 0.95, "method": "wilson"},
            "higher_is_better": True,
            "pass": True,
            "seconds": 1.0,
            "error": None,
        }
        for name, score in (("=cmd", 0.5), ("b", 0.5), ("c", 0.75))
    ]
    result = {"total": 3, "seconds": 3.0, "outcomes": outcomes}
    with served(root, [Done("night", action="batch", result=result)]) as (url, ids):
        browser.open(f"{url}/ui/record/{ids['night']}?lang=en", width=1300)
        browser.wait_for("document.querySelectorAll('.board tbody tr').length === 3")
        assert cells(browser, ".board .place") == ["1", "=2", "=2"]
        assert cells(browser, ".board tbody th") == ["c", "=cmd", "b"] or cells(browser, ".board tbody th") == [
            "c",
            "b",
            "=cmd",
        ]
        lines = saved(browser, "#board-csv").split("\r\n")
        assert lines[0].endswith("place,workspace,state,metric,score,low,high,pass,rank,seconds,error")
        assert lines[1] == "1,c,completed,f1,0.75,0.65,0.85,true,,1," and any(
            line.startswith("2,'=cmd,") for line in lines
        )


# --- workspaces ------------------------------------------------------------------------------------------------------

TRUTH = "id,label\n" + "".join(f"r{n},{'cat' if n % 3 else 'dog'}\n" for n in range(30))


def predictions(wrong: int) -> str:
    lines = TRUTH.splitlines()[1:]
    return "id,label\n" + "".join(
        f"{line.split(',')[0]},{'dog' if n < wrong else line.split(',')[1]}\n" for n, line in enumerate(lines)
    )


@pytest.fixture
def space(root: Path) -> Path:
    """A workspace that was scored three times, the last time by another truth; then its predictions were wrong."""
    made = write_workspace(root, "ws", truth=TRUTH, pred=predictions(9), params={"pass_threshold": 0.9})
    for wrong, truth in ((9, TRUTH), (0, TRUTH), (0, TRUTH.replace("r1,cat", "r1,dog"))):
        (made / "output" / "pred.csv").write_text(predictions(wrong))
        (made / "input" / "gt.csv").write_text(truth)
        assert score_workspace(made).error is None
    (made / "output" / "pred.csv").write_text("id,label\nr1,cat\n")
    assert score_workspace(made).error is not None
    return made


def test_workspaces_are_found_by_their_names_and_gone_through_by_pages(
    browser: Browser, root: Path, space: Path
) -> None:
    for number in range(101):
        write_workspace(root, f"round/model-{number:03}", pred=None)
    with serving(root) as benches:
        looks(browser, benches, "admin", "/ui/workspaces")
        browser.wait_for("document.querySelectorAll('#rows tr').length === 100")
        click(browser, "#next")
        browser.wait_for("document.querySelectorAll('#rows tr').length === 2")
        assert cells(browser, "#rows [data-key=name]") == ["round/model-100", "ws"]
        assert "different ids" in text(browser, "[data-name=ws] [data-key=verdict]")
        browser.value("history.back()")
        browser.wait_for("document.querySelectorAll('#rows tr').length === 100")
        put(browser, "#search", "MODEL-04")
        browser.wait_for("document.querySelectorAll('#rows tr').length === 10")
        assert "search=MODEL-04" in browser.value("location.search")
        assert cells(browser, "#rows [data-key=name]") == [f"round/model-{number:03}" for number in range(40, 50)]
        put(browser, "#search", HOSTILE)
        browser.wait_for("document.querySelector('#empty')")
        assert HOSTILE in text(browser, "#empty") and browser.value("document.querySelector('main img')") is None


def test_a_workspaces_history_is_drawn_and_told(browser: Browser, root: Path, space: Path) -> None:
    with serving(root) as benches:
        told = benches.call("admin", "GET", "/workspaces/ws/history").data["results"]
        looks(browser, benches, "admin", "/ui/workspace/ws")
        browser.wait_for("document.querySelectorAll('#rows tr').length === 4")
        assert browser.value("document.querySelectorAll('#history circle').length") == 3
        assert browser.value("document.querySelectorAll('#history .band, #history .goal').length") == 4
        mark = browser.value("document.querySelector('#history .mark title').textContent")
        assert (mark, cells(browser, "#rows [data-key=changed]")) == ("ground truth", ["", "ground truth", "", ""])
        assert values(browser, "#rows [data-key=score]") == [
            each["score"] for each in told if each["score"] is not None
        ]
        # Why there is none today stands first; and a Result of before is shown whole.
        browser.wait_for("document.querySelector('#result .failure')")
        assert "different ids" in text(browser, "#result")
        click(browser, f'[data-id="{told[2]["id"]}"] [data-key=result] a')
        browser.wait_for("document.querySelector('#result .score data')?.value === '1'")
        assert told[2]["id"] in browser.value("location.search")
        browser.value("history.back()")
        browser.wait_for("document.querySelector('#result .failure')")
        assert (
            browser.value("document.querySelector('#submit').getAttribute('href')") == "/ui/submit?lang=en&workspace=ws"
        )
        looks(browser, benches, "admin", "/ui/workspace/ws?result=20200101T000000.000000Z")
        browser.wait_for("document.querySelector('#result [role=alert]')")


def test_a_workspace_is_deleted_after_a_question_and_by_an_admin_alone(browser: Browser, root: Path) -> None:
    write_workspace(root, HOSTILE)
    with serving(root) as benches:
        path = f"/ui/workspace/{quote(HOSTILE)}"
        looks(browser, benches, "submit", path)
        browser.wait_for("document.querySelector('#delete')")
        click(browser, "#delete")
        browser.wait_for("document.querySelector('dialog[open]')")
        assert HOSTILE in text(browser, "dialog") and browser.value("document.querySelector('img')") is None
        click(browser, "#confirm-yes")
        browser.wait_for("document.querySelector('[role=alert]')")
        assert "role admin" in text(browser, "[role=alert]")
        looks(browser, benches, "admin", path)
        for answer in ("#confirm-no", "#confirm-yes"):
            assert (root / HOSTILE).is_dir()
            browser.wait_for("document.querySelector('#delete')")
            click(browser, "#delete")
            browser.wait_for("document.querySelector('dialog[open]')")
            click(browser, answer)
        browser.wait_for("location.pathname === '/ui/workspaces' && document.querySelector('#empty')")
        assert not (root / HOSTILE).exists()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_too_wide_or_too_faint(
    browser: Browser, flowers: BenchmarkFolder, root: Path, space: Path, scheme: str
) -> None:
    change_spec(flowers, title="W" * 200, description=HOSTILE + " " + "w" * 500)
    with serving(root) as benches:
        for path in ("benchmarks", "benchmark/flowers?team=team-a", "workspaces", "workspace/ws"):
            for width in (320, 1300):
                looks(browser, benches, "admin", f"/ui/{path}", width=width, scheme=scheme)
                browser.wait_for("document.querySelector('tbody tr')")
                assert browser.value("document.documentElement.scrollWidth") <= width, (path, width)
                assert browser.value(CONTRAST) == [], (path, width)
