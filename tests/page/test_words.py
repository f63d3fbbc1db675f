"""The page in two languages: a line of a dictionary for each word, and no word beside it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.errors import CATALOGUE
from autoscorer.schemas.task import TaskState

from ..support.browser import Browser
from ..support.browser import browser as browser
from ..support.records_page import Done, click, scored, served, text

STATIC = Path(__file__).parents[2] / "api" / "static"
SCRIPTS = [path for path in sorted(STATIC.rglob("*.js")) if path.parent.name != "words" and path.name != "docs.js"]
HOLES = re.compile(r"\{(\w+)\}")


DICTIONARIES = [path.stem for path in sorted((STATIC / "words").glob("*.js")) if path.stem != "failures"]


def entries(page: Browser, url: str, module: str, name: str) -> dict[str, Any]:
    page.open(f"{url}/?lang=en", width=1300)
    found = page.value(f"import('/static/words/{module}.js').then(m => m.{name})")
    return dict(found)


def all_words(page: Browser, url: str) -> dict[str, dict[str, Any]]:
    """Each dictionary's words; none is in two."""
    found = {name: entries(page, url, name, "words") for name in DICTIONARIES}
    every = [key for words in found.values() for key in words]
    assert len(every) == len(set(every)), {key for key in every if every.count(key) > 1}
    return found


@pytest.fixture
def url(tmp_path: Path) -> Any:
    (tmp_path / "root").mkdir()
    with served(tmp_path / "root", []) as (address, _):
        yield address


def test_every_word_stands_in_both_languages_with_the_same_holes(browser: Browser, url: str) -> None:
    words = {key: pair for each in all_words(browser, url).values() for key, pair in each.items()}
    assert len(words) > 150
    for key, pair in words.items():
        assert len(pair) == 2, key
        english, chinese = pair
        forms = english if isinstance(english, list) else [english]
        assert len(forms) == (2 if isinstance(english, list) else 1), key
        assert isinstance(chinese, str) and chinese.strip() and all(form.strip() for form in forms), key
        for form in forms:
            assert set(HOLES.findall(form)) == set(HOLES.findall(chinese)), key
        if key not in ("page.other", "provenance.autoscorer", "task.flow", "page.other.label"):
            assert re.search(r"[\u3000-\u9fff\uff00-\uffef]", chinese), key
            assert not any(re.search(r"[\u3000-\u9fff]", form) for form in forms), key


def test_every_code_of_the_catalogue_is_told_in_both(browser: Browser, url: str) -> None:
    failures = entries(browser, url, "failures", "failures")
    own = {"AWAY", "BROKEN"}
    assert set(failures) == {code.value for code in CATALOGUE} | own
    for code, spec in CATALOGUE.items():
        fault, title, advice = failures[code.value]
        assert fault == spec.fault.value, code
        for english, chinese in (title, advice):
            assert english and not re.search(r"[\u3000-\u9fff]", english), code
            assert re.search(r"[\u3000-\u9fff]", chinese), code


def test_every_key_that_is_asked_for_is_there_and_none_is_left_over(browser: Browser, url: str) -> None:
    words = {key: pair for each in all_words(browser, url).values() for key, pair in each.items()}
    code = "\n".join(path.read_text() for path in SCRIPTS)
    files = (".js", ".css", ".csv", ".html", ".json", ".gz", ".tar", ".zip")
    asked = {each for each in re.findall(r'"([a-z]+(?:\.[a-z]+)+)"', code) if each in words or not each.endswith(files)}
    # Those that end with a word of the service's: t(`list.${key}`), word("state", …).
    lists = set(re.findall(r'word\("(\w+)"', code)) | set(re.findall(r'list="(\w+)"', code)) | {"state"}
    lists |= set(re.findall(r"`([a-z]+(?:\.[a-z]+)*)\.\$\{", code))
    assert asked <= set(words), asked - set(words)
    left = {each for each in words if each not in asked and not any(each.startswith(f"{one}.") for one in lists)}
    assert left == set()
    for state in TaskState:
        assert f"state.{state.value}" in words


def _closure(script: Path, seen: set[Path]) -> set[Path]:
    """A script and all that it imports."""
    if script not in seen and script.is_file() and script.parent.name != "words":
        seen.add(script)
        for name in re.findall(r'from "/static/([^"]+)"', script.read_text()):
            _closure(STATIC / name, seen)
    return seen


def test_every_view_has_the_dictionaries_of_what_it_says(browser: Browser, url: str) -> None:
    known = all_words(browser, url)
    listed = re.findall(
        r'^  "?([\w-]+)"?: \[(?:null|"[\w.]+"), \[([^\]]*)\]\],$', (STATIC / "main.js").read_text(), re.M
    )
    assert {view for view, _ in listed} == {path.stem for path in (STATIC / "views").glob("*.js")}
    for view, names in listed:
        there = set(known["words"]).union(*(known[name] for name in re.findall(r"\w+", names)))
        code = "\n".join(path.read_text() for path in _closure(STATIC / "views" / f"{view}.js", set()))
        lists = set(re.findall(r"`([a-z]+(?:\.[a-z]+)*)\.\$\{", code)) | set(re.findall(r'word\("(\w+)"', code))
        asked = {each for words in known.values() for each in words if f'"{each}"' in code}
        asked |= {each for words in known.values() for each in words if each.rpartition(".")[0] in lists}
        assert asked <= there, (view, asked - there)


class _Texts(HTMLParser):
    """Words of the page that do not come from the dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # What stands there until the scripts come is told in both languages, as is what stands in their place.
        if ("id", "loading") in attrs:
            tag = "noscript"
        if tag not in ("meta", "link", "input", "br"):
            self.open.append(tag)
        self.found += [str(value) for name, value in attrs if name in ("title", "alt", "placeholder", "aria-label")]

    def handle_endtag(self, tag: str) -> None:
        self.open.remove(tag if tag in self.open else "noscript")

    def handle_data(self, data: str) -> None:
        # Without JavaScript nobody chooses a language: it is told in both. The name is the same in all.
        if data.strip() and "noscript" not in self.open:
            self.found.append(data.strip())


def test_the_page_itself_holds_no_words() -> None:
    parser = _Texts()
    parser.feed((STATIC / "index.html").read_text())
    assert set(parser.found) == {"AutoScorer"}


TOKENS = r"""
const fs = require("fs");
// A JavaScript lexer that is enough for these files: comments, strings, templates, regular expressions.
for (const path of process.argv.slice(1)) {
  const source = fs.readFileSync(path, "utf8");
  let last = "", i = 0;
  const stack = [];
  const out = (kind, text) => console.log(JSON.stringify([path, kind, text]));
  // A template as a whole; \0 stands where something is put in.
  const template = (text) => {
    while (source[i] !== "`") {
      if (source[i] === "\\") { text += source[i + 1]; i += 2; continue; }
      if (source.startsWith("${", i)) { i += 2; stack.push({ text: text + "\0", braces: 0 }); last = ""; return; }
      text += source[i++];
    }
    i++;
    out("template", text);
    last = "x";
  };
  while (i < source.length) {
    const c = source[i];
    if (source.startsWith("//", i)) { while (i < source.length && source[i] !== "\n") i++; continue; }
    if (source.startsWith("/*", i)) { i = source.indexOf("*/", i) + 2; continue; }
    if (c === '"' || c === "'") {
      let text = "";
      for (i++; source[i] !== c; i++) { if (source[i] === "\\") i++; text += source[i]; }
      i++; out("string", text); last = "x"; continue;
    }
    if (c === "`") { i++; template(""); continue; }
    if (c === "/" && !/[\w)\]]/.test(last)) {
      for (i++; source[i] !== "/"; i++) {
        if (source[i] === "\\") i++;
        else if (source[i] === "[") while (source[i] !== "]") i += source[i] === "\\" ? 2 : 1;
      }
      i++; last = "x"; continue;
    }
    if (stack.length && c === "{") stack.at(-1).braces++;
    if (stack.length && c === "}") {
      if (!stack.at(-1).braces) { i++; template(stack.pop().text); continue; }
      stack.at(-1).braces--;
    }
    if (/\S/.test(c)) last = c;
    i++;
  }
}
"""
# Attributes that are read, out loud or by pointing at them.
# Names of the style sheet's, several of which an element may have.
CLASSES = set(re.findall(r"\.([a-z][\w-]*)", (STATIC / "page.css").read_text()))
READ = re.compile(r"""(?:aria-label|placeholder|title|alt|label)="([^"\0]*[A-Za-z\u3000-\u9fff]{2}[^"\0]*)""")


def prose_of(kind: str, text: str) -> list[str]:
    """What a person would read of a string or a template of a script."""
    if kind == "template" and "<" in text:
        shown = re.sub(r"<[^>]*>", "\0", text)
        return [each.strip() for each in shown.split("\0") if re.search(r"[A-Za-z\u3000-\u9fff]{2}", each)] + [
            each for each in READ.findall(text) if " " in each or re.search(r"[A-Z\u3000-\u9fff]", each)
        ]
    if set(re.split(r"[ \0]+", text.strip())) <= CLASSES:
        return []
    # Two words in a row, a word that begins with a capital, or Chinese.
    is_prose = re.search(r"[A-Za-z]{2,}[,.:;]? [A-Za-z]{2,}|^\W*[A-Z][a-z]+\b|[\u3000-\u9fff]", text)
    return [text] if is_prose and not re.search(r"[#\[\]=>:]|^data-", text) else []


def test_no_script_holds_words_beside_the_dictionary() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    done = subprocess.run(
        [node, "-e", TOKENS, "--", *map(str, SCRIPTS)], capture_output=True, text=True, check=True, timeout=300
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) > 500
    known = {
        # Names that are the same in both, and words of the web's own.
        "AutoScorer", "GET", "POST", "Authorization", "Bearer \0", "AWAY", "BROKEN", "Escape", "AbortError",
        "noopener noreferrer", "Content-Type", "If-None-Match", "Last-Event-ID", "Idempotency-Key", "ETag", "Location",
        "+Inf",
        "-Inf", "Python",
    }  # fmt: skip
    beside = {(Path(path).name, each) for path, kind, text in found for each in prose_of(kind, text)}
    assert {each for each in beside if each[1] not in known} == set()


@pytest.mark.slow
class TestSwitch:
    @pytest.fixture
    def page(self, tmp_path: Path) -> Any:
        root = tmp_path / "root"
        root.mkdir()
        error = {"code": "TIMEOUT_ERROR", "message": "9 > 8", "stage": "execution", "details": {"log": ["1"]}}
        outcomes = [{"workspace": str(root / "1"), "state": "completed", "score": 0.5, "pass": False, "seconds": 1.0}]
        tasks = [
            Done("1", result=scored(root, "1", pass_threshold=0.5)),
            Done("2", result=scored(root, "2", pass_threshold=0.99)),
            Done("3", TaskState.FAILED, error=error),
            Done("4", action="validate", result={"1": True}),
            Done("5", TaskState.CANCELLED, action="run"),
            Done("6", None, action="pipeline"),
            Done("7", action="batch", result={"total": 1, "seconds": 2.0, "outcomes": outcomes}),
        ]
        with served(root, tasks) as (address, ids):
            yield address, ids

    @pytest.mark.parametrize("width", [390, 1300])
    def test_in_chinese_every_word_that_is_not_data_is_chinese(self, browser: Browser, page: Any, width: int) -> None:
        url, ids = page
        # Names of the service's own, which have no translation: metrics, params, hosts, files, units.
        names = (
            r"AutoScorer|English|CSV|f1_\w+|precision\w*|recall\w*|accuracy|f1|support|k\d+|classification_f1|pass_threshold|"
            r"wilson\S*|sha256|result\.json|\w+_plot|confusion_matrix|per_class|errors|report|KiB|Flow run|Prefect|"
            r"TIMEOUT_ERROR|AUTOSCORER_API_TOKENS|api-token|meta\.json|timeout|A|B|C|D|vm|\d+[a-f]\w+"
        )
        for number in ["", *ids]:
            browser.open(f"{url}/ui/{f'record/{ids[number]}' if number else 'records'}?lang=zh", width=width)
            browser.wait_for(
                "document.querySelector('#detail .part dl')"
                if number
                else "document.querySelectorAll('#rows tr').length === 7"
            )
            browser.wait_for("document.querySelector('#service')")
            assert browser.value("document.documentElement.lang") == "zh-CN"
            shown = browser.value(
                """(() => {
                  const out = [];
                  // What the service says in its own words, and the name of the other language.
                  const theirs = '.mono, #service p, #log, ul:not(.facts), noscript, script, style, #language';
                  const mine = e => !e.closest(theirs);
                  for (const e of document.querySelectorAll('body *')) {
                    if (!mine(e)) continue;
                    for (const n of e.childNodes) if (n.nodeType === 3) out.push(n.textContent);
                    for (const a of ['aria-label', 'placeholder']) if (e.hasAttribute(a)) out.push(e.getAttribute(a));
                  }
                  return out;
                })()"""
            )
            left = {each for each in shown if re.search(r"[A-Za-z]{2,}", re.sub(rf"\b(?:{names})\b", "", each))}
            left -= {ids[each] for each in ids}
            assert {each for each in left if not each.startswith(("GET ", "autoscorer"))} == set(), number

    def test_the_language_is_switched_and_remembered(self, browser: Browser, page: Any) -> None:
        url, ids = page
        browser.open(f"{url}/#{ids['1']}", width=1300)
        browser.value("localStorage.clear()")
        browser.reload()
        browser.wait_for("document.querySelector('#detail .part dl')")
        assert browser.value("document.documentElement.lang") == "en"
        assert browser.value("localStorage.length") == 0
        browser.value("document.querySelector('#language').focus()")
        browser.press("Enter")
        browser.wait_for("document.documentElement.lang === 'zh-CN'")
        assert browser.value("document.activeElement.id") == "language"
        assert "通过" in text(browser, ".hero") and "越高越好" in text(browser, ".hero")
        assert "年" in text(browser, "#detail")
        # Remembered in this browser; the address is stronger, and says so itself once it is switched.
        browser.open(f"{url}/", width=1300)
        browser.wait_for("document.querySelectorAll('#rows tr').length === 7")
        assert browser.value("document.documentElement.lang") == "zh-CN"
        browser.open(f"{url}/?lang=en", width=1300)
        browser.wait_for("document.querySelectorAll('#rows tr').length === 7")
        assert browser.value("document.documentElement.lang") == "en"
        click(browser, "#language")
        assert browser.value("location.search") == "?lang=zh"
        browser.value("localStorage.clear()")

    def test_the_browsers_language_comes_first(self, browser: Browser, page: Any) -> None:
        url, _ = page
        agent = browser.value("navigator.userAgent")
        try:
            for given, expected in (("zh-TW,en", "zh-CN"), ("fr,zh", "zh-CN"), ("fr,de", "en"), ("en-GB,zh", "en")):
                browser.call("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=given)
                browser.open(f"{url}/", width=1300)
                browser.wait_for(f"document.documentElement.lang === '{expected}'")
        finally:
            browser.call("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage="en-US")
