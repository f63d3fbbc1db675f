"""The registry: what loads, what is refused and how that is told, and that a run keeps its code."""

from __future__ import annotations

import gc
import hashlib
import importlib
import inspect
import json
import linecache
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import traceback
import warnings
from pathlib import Path

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.result import Result
from autoscorer.scorers.base import BaseScorer, ScorerParams
from autoscorer.scorers.registry import ScorerRegistry, get_registry, register
from autoscorer.scorers.registry.builtin import BUILTIN_MODULES
from autoscorer.scorers.registry.manifest import ScorerManifest, load_configured
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ..support.examples import examples

HEADER = """\
from autoscorer.schemas.result import Result
from autoscorer.scorers.base import BaseScorer
from autoscorer.scorers.registry import register
"""


def source(scorer_id: str = "mine", version: str = "1.0.0", value: str = "1.0", head: str = "", tail: str = "") -> str:
    body = f'''
@register("{scorer_id}")
class Mine(BaseScorer):
    """The first line says what it is.

    The rest is for its readers.
    """
    name = "{scorer_id}"
    version = "{version}"

    def score(self, workspace, params):
        return Result(metrics={{"score": {value}}})
'''
    return HEADER + head + body + tail


@pytest.fixture
def registry() -> ScorerRegistry:
    return ScorerRegistry(entry_points=False)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refused(registry: ScorerRegistry, path: Path) -> AutoScorerError:
    with pytest.raises(AutoScorerError) as caught:
        registry.load_file(path)
    assert caught.value.code is ErrorCode.SCORER_LOAD_ERROR
    return caught.value


def value_of(registry: ScorerRegistry, scorer_id: str = "mine") -> float | None:
    return registry.get(scorer_id).create().score(Path("."), {}).metrics["score"]


# --- loading -------------------------------------------------------------------------------------------------


def test_an_entry_says_what_it_is_and_which_bytes_it_came_from(registry: ScorerRegistry, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", source())
    (entry,) = registry.load_file(path)
    assert (entry.id, entry.version, entry.origin, entry.status) == ("mine", "1.0.0", "file", "ok")
    assert entry.description == "The first line says what it is."
    assert entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert entry.source == path
    assert entry.line is not None
    assert path.read_text().splitlines()[entry.line - 1] == '@register("mine")'
    assert registry.get("mine") is entry
    as_json = json.loads(json.dumps(entry.to_dict(), allow_nan=False))
    assert "pass_threshold" in as_json["params_schema"]["properties"]


def test_the_entry_is_frozen_and_the_class_gets_nothing_added(registry: ScorerRegistry, tmp_path: Path) -> None:
    (entry,) = registry.load_file(write(tmp_path / "mine.py", source()))
    with pytest.raises(AttributeError):
        entry.version = "2"  # type: ignore[misc]
    undecorated = {}
    exec(source().replace('@register("mine")\n', ""), undecorated)
    assert set(vars(entry.scorer_class)) == set(vars(undecorated["Mine"]))


def test_two_saves_within_a_second_and_of_one_size_run_their_own_code(registry: ScorerRegistry, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    for value in range(10):
        write(path, source(value=f"{value}.0"))
        registry.load_file(path)
        assert value_of(registry) == value
    assert not (tmp_path / "__pycache__").exists()


def test_an_unchanged_file_is_kept_and_a_reload_runs_it_again(registry: ScorerRegistry, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", source())
    (first,) = registry.load_file(path)
    assert registry.load_file(path) == [first]
    assert registry.get("mine") is first
    (second,) = registry.reload_file(path)
    assert second.scorer_class is not first.scorer_class
    assert registry.get("mine") is second


def test_a_run_that_holds_an_entry_finishes_with_its_code(registry: ScorerRegistry, tmp_path: Path) -> None:
    helper = "def value():\n    return {}\n"
    write(tmp_path / "_helper.py", helper.format(1.0))
    path = write(tmp_path / "mine.py", source(value="value()", head="from ._helper import value\n"))
    (old,) = registry.load_file(path)
    running = old.create()
    write(tmp_path / "_helper.py", helper.format(2.0))
    registry.load_file(path)
    path.unlink()
    registry.unload_file(path)
    assert running.score(Path("."), {}).metrics == {"score": 1.0}
    assert old.create().score(Path("."), {}).metrics == {"score": 1.0}
    assert type(pickle.loads(pickle.dumps(running))) is type(running)


@pytest.mark.slow
def test_modules_of_replaced_versions_go_when_nobody_holds_them(registry: ScorerRegistry, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"

    def modules() -> list[str]:
        return [name for name in sys.modules if name.startswith("_autoscorer_file_")]

    write(path, source())
    registry.load_file(path)
    gc.collect()  # what other tests have let go of
    before = len(modules())
    for value in range(20):
        write(path, source(value=f"{value}.0"))
        registry.load_file(path)
        refused(registry, write(path, source() + "1/0"))
    gc.collect()  # pytest keeps the errors it has caught in rings
    assert len(modules()) == before
    registry.unload_file(path)
    assert len(modules()) < before
    assert str(path) not in linecache.cache


def test_pickle_and_inspect_see_a_loaded_class_like_any_other(registry: ScorerRegistry, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", source())
    (entry,) = registry.load_file(path)
    assert pickle.loads(pickle.dumps(entry.scorer_class)) is entry.scorer_class
    path.write_text("# something else by now\n")
    text = inspect.getsource(entry.scorer_class)
    assert text.startswith('@register("mine")\nclass Mine(BaseScorer):')
    assert inspect.getsource(entry.scorer_class.score) in text


def test_a_traceback_shows_the_lines_that_ran(registry: ScorerRegistry, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", source(value="1 / params['zero']"))
    scorer = registry.load_file(path)[0].create()
    path.write_text("# something else by now\n" * 40)
    try:
        scorer.score(Path("."), {"zero": 0})
    except ZeroDivisionError as error:
        shown = "".join(traceback.format_exception(error))
    assert "1 / params['zero']" in shown
    assert str(path) in shown


def test_code_that_looks_itself_up_at_import_works(registry: ScorerRegistry, tmp_path: Path) -> None:
    head = """
from __future__ import annotations
import dataclasses, typing
from pathlib import Path
from autoscorer.scorers.base import ScorerParams

HERE = Path(__file__).parent

@dataclasses.dataclass
class Row:
    value: typing.ClassVar[int] = 3

class MyParams(ScorerParams):
    limit: Limit = 1.0

Limit = float
"""
    text = head + source().replace('    name = "mine"', '    name = "mine"\n    Params = MyParams')
    path = write(tmp_path / "with space and-dash.v2.py", text)
    (entry,) = registry.load_file(path)
    assert tmp_path == sys.modules[entry.scorer_class.__module__].HERE
    assert entry.params_schema["properties"]["limit"]["type"] == "number"


def test_encodings_and_a_bom_are_read_as_python_reads_them(registry: ScorerRegistry, tmp_path: Path) -> None:
    latin = tmp_path / "latin.py"
    latin.write_bytes(("# coding: latin-1\n" + source("latin", version="é")).encode("latin-1"))
    bom = tmp_path / "bom.py"
    bom.write_bytes(b"\xef\xbb\xbf" + source("bom").encode())
    assert registry.load_file(latin)[0].version == "é"
    assert registry.load_file(bom)[0].id == "bom"


# --- what does not load --------------------------------------------------------------------------------------

BROKEN = {
    "syntax": ("x = (\n", "SyntaxError", 1),
    "indentation": ("def f():\nreturn 1\n", "IndentationError", 2),
    "exception": ("\n\n1 / 0\n", "ZeroDivisionError: division by zero", 3),
    "deep exception": ("def f():\n    raise KeyError('k')\n\nf()\n", "KeyError: 'k'", 2),
    "exit": ("import sys\nsys.exit('no thanks')\n", "SystemExit: no thanks", 2),
    "no such module": ("import no_such_module_at_all\n", "ModuleNotFoundError: No module named", 1),
    "recursion": ("def f():\n    return f()\n\nf()\n", "RecursionError: maximum recursion", 2),
    "deep nesting": ("x = " + "(" * 5000 + ")" * 5000 + "\n", "too many nested parentheses", 1),
    "generator exit": ("raise GeneratorExit\n", "GeneratorExit", 1),
    "no text to be had": (
        "class E(Exception):\n    def __str__(self):\n        raise ValueError\n\nraise E\n",
        "E: (its text can't be had)",
        5,
    ),
    "null byte": ("x = 1\0\n", "null bytes", None),
    "no utf-8": (b"x = '\xff'\n", "SyntaxError", None),
    "registers nothing": ("x = 1\n", "registers no scorer", None),
    "empty": ("", "registers no scorer", None),
    "no scorer class": (HEADER + "@register('x')\nclass X: pass\n", "expected a subclass of BaseScorer", 4),
    "no parentheses": (HEADER + "@register\nclass X(BaseScorer): pass\n", "registers no scorer", None),
    "no version": (
        HEADER + "@register('x')\nclass X(BaseScorer):\n    name = 'x'\n    score = lambda *a: None\n",
        "'version' is missing",
        4,
    ),
    "no name": (HEADER + "@register('x')\nclass X(BaseScorer):\n    version = '1'\n", "'name' must be a text", 4),
    "no score": (
        HEADER + "@register('x')\nclass X(BaseScorer):\n    name, version = 'x', '1'\n",
        "must implement score",
        4,
    ),
    "bad id": (HEADER + "@register('a/b')\nclass X(BaseScorer): pass\n", "an id has 1 to 100", 4),
    "wants arguments": (
        source("x").replace("    def score", "    def __init__(self, k): pass\n\n    def score"),
        "made without arguments",
        5,
    ),
    "id twice": (source("x") + source("x"), "both define it", None),
    "built-in's id": (source("classification_f1"), "is taken by a built-in", None),
    "fails half-way": (source("half") + "\nraise RuntimeError('late')\n", "RuntimeError: late", None),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_load_is_told_with_place_and_reason_and_registers_nothing(
    registry: ScorerRegistry, tmp_path: Path, name: str
) -> None:
    text, reason, line = BROKEN[name]
    path = tmp_path / "broken.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    known = registry.ids()
    error = refused(registry, path)
    assert reason in error.message
    assert str(path) in error.message
    assert "Traceback" not in error.message
    assert error.details["file"] == str(path)
    if line is not None:
        assert error.details["line"] == line
        assert f"{path}:{line}: " in error.message
    json.dumps(error.to_dict(), allow_nan=False)
    assert registry.ids() == known
    (failure,) = registry.errors()
    assert failure.error.message == error.message


def test_what_is_no_readable_file_is_refused_without_hanging(registry: ScorerRegistry, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.py")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "large.py").write_bytes(b"#" * (9 * 1024 * 1024))
    for name, reason in [
        ("fifo.py", "not a plain file"),
        ("folder.py", "directory"),
        ("none.py", "No such file"),
        ("large.py", "larger than"),
    ]:
        assert reason in refused(registry, tmp_path / name).message


@settings(max_examples=examples(60), deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")))
@example(b"undefined\n#\xff\xff\xff")  # compiles, runs as far as a NameError, and can't be decoded as a whole
def test_no_bytes_break_the_registry(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    registry = ScorerRegistry(entry_points=False)
    path = tmp_path_factory.mktemp("any") / "any.py"
    path.write_bytes(data)
    with warnings.catch_warnings(action="ignore"):  # Python's own about odd literals
        assert refused(registry, path).details["file"] == str(path)


def test_a_version_that_does_not_load_leaves_the_last_good_one_marked_stale(
    registry: ScorerRegistry, tmp_path: Path
) -> None:
    path = write(tmp_path / "mine.py", source(value="1.0"))
    (good,) = registry.load_file(path)
    write(path, source(value="2.0") + "\n1/0\n")
    message = refused(registry, path).message
    stale = registry.get("mine")
    assert (stale.status, stale.error, stale.sha256) == ("stale", message, good.sha256)
    assert value_of(registry) == 1.0
    assert registry.errors()[0].ids == ("mine",)
    write(path, source(value="3.0"))
    registry.load_file(path)
    assert (registry.get("mine").status, registry.errors(), value_of(registry)) == ("ok", [], 3.0)


def test_a_new_version_may_rename_its_scorer(registry: ScorerRegistry, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", source("old_name"))
    registry.load_file(path)
    write(path, source("new_name"))
    registry.load_file(path)
    assert set(registry.ids()) == {*BUILTIN_MODULES, "new_name"}


# --- one owner an id -----------------------------------------------------------------------------------------


def test_a_collision_shows_both_places_and_changes_nothing(registry: ScorerRegistry, tmp_path: Path) -> None:
    one = write(tmp_path / "one.py", source("same", value="1.0"))
    two = write(tmp_path / "two.py", source("other") + source("same", value="2.0"))
    registry.load_file(one)
    error = refused(registry, two)
    assert error.details["defined_at"] == [registry.get("same").where, f"{two}:{error.details['line']}"]
    assert all(place in error.message for place in error.details["defined_at"])
    assert value_of(registry, "same") == 1.0
    assert "other" not in registry.ids()
    registry.unload_file(one)
    registry.load_file(two)
    assert value_of(registry, "same") == 2.0


def test_a_file_may_not_take_a_builtin_and_nothing_is_imported_to_say_so(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", source("regression_rmse"))
    code = f"""
import sys
from autoscorer.core.errors import AutoScorerError
from autoscorer.scorers.registry import get_registry
try:
    get_registry().load_file({str(path)!r})
except AutoScorerError as error:
    print(error.message)
print("autoscorer.scorers.regression" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "taken by a built-in" in out
    assert "regression" in out.splitlines()[0].partition("and")[0]
    assert out.splitlines()[1] == "False"


def test_one_file_under_two_names_is_one_file(registry: ScorerRegistry, tmp_path: Path) -> None:
    real = write(tmp_path / "real" / "mine.py", source())
    (tmp_path / "link").symlink_to(tmp_path / "real")
    registry.load_file(real)
    registry.load_file(tmp_path / "link" / "mine.py")
    assert [s.path for s in registry.sources()] == [real]


# --- siblings ------------------------------------------------------------------------------------------------


def test_siblings_are_imported_relatively_fresh_and_of_their_own_folder(
    registry: ScorerRegistry, tmp_path: Path
) -> None:
    for folder, value in (("a", 1.0), ("b", 2.0)):
        write(tmp_path / folder / "_helper.py", "from ._constants import VALUE\ndef value():\n    return VALUE\n")
        write(tmp_path / folder / "_constants.py", f"VALUE = {value}\n")
        text = source(folder, value="value()", head="from . import _helper\nfrom ._helper import value\n")
        registry.load_directory(write(tmp_path / folder / "mine.py", text).parent)
    assert (value_of(registry, "a"), value_of(registry, "b")) == (1.0, 2.0)
    entry = registry.get("a")
    assert set(entry.siblings) == {"_helper.py", "_constants.py"}
    assert entry.siblings["_constants.py"] == hashlib.sha256(b"VALUE = 1.0\n").hexdigest()
    # A changed sibling is a change of the file.
    write(tmp_path / "a" / "_constants.py", "VALUE = 5.0\n")
    registry.load_file(tmp_path / "a" / "mine.py")
    assert value_of(registry, "a") == 5.0
    assert entry.create().score(Path("."), {}).metrics == {"score": 1.0}


def test_a_scorer_may_build_on_a_sibling_that_is_a_scorer_file_too(registry: ScorerRegistry, tmp_path: Path) -> None:
    write(tmp_path / "base_one.py", source("base_one"))
    derived = HEADER + textwrap.dedent("""
        from .base_one import Mine

        @register("derived")
        class Derived(Mine):
            name = "derived"
    """)
    write(tmp_path / "derived.py", derived)
    assert {e.id for e in registry.load_directory(tmp_path)} == {"base_one", "derived"}
    assert registry.errors() == []


def test_faulty_sibling_imports_are_told_with_the_way_out(registry: ScorerRegistry, tmp_path: Path) -> None:
    write(tmp_path / "helper.py", "VALUE = 1\n")
    error = refused(registry, write(tmp_path / "plain.py", "from helper import VALUE\n" + source()))
    assert "write 'from .helper import …'" in error.message
    error = refused(registry, write(tmp_path / "missing.py", "from .nothing import x\n" + source()))
    assert "no nothing.py lies beside missing.py" in error.message
    write(tmp_path / "_faulty.py", "x = 1\ny = (\n")
    error = refused(registry, write(tmp_path / "importing.py", "from ._faulty import x\n" + source()))
    assert f"{tmp_path / '_faulty.py'}:2: SyntaxError" in error.message
    assert "imported by importing.py" in error.message


def test_a_sibling_imported_only_while_scoring_is_refused(registry: ScorerRegistry, tmp_path: Path) -> None:
    write(tmp_path / "_late.py", "VALUE = 1.0\n")
    value = '__import__("importlib").import_module("._late", __package__).VALUE'
    (entry,) = registry.load_file(write(tmp_path / "mine.py", source(value=value)))
    with pytest.raises(ImportError, match=r"mine\.py must import \._late at its top"):
        entry.create().score(Path("."), {})


# --- folders -------------------------------------------------------------------------------------------------


def test_a_folder_loads_its_scorer_files_and_one_broken_file_stops_no_other(
    registry: ScorerRegistry, tmp_path: Path
) -> None:
    write(tmp_path / "good.py", source("good"))
    write(tmp_path / "broken.py", "1/0\n")
    for skipped in ("_helper.py", "test_good.py", "good_test.py", "conftest.py", ".hidden.py", "notes.txt", "s/x.py"):
        write(tmp_path / skipped, "raise AssertionError('must not run')\n")
    (entry,) = registry.load_directory(tmp_path)
    assert (entry.id, entry.origin) == ("good", "directory")
    assert [Path(f.source).name for f in registry.errors()] == ["broken.py"]
    (tmp_path / "broken.py").unlink()
    (tmp_path / "good.py").rename(tmp_path / "renamed.py")
    registry.load_directory(tmp_path)
    assert registry.get("good").source == tmp_path / "renamed.py"
    assert registry.errors() == []


def test_who_looks_for_a_scorer_learns_of_broken_files_without_where_they_lie(
    registry: ScorerRegistry, tmp_path: Path
) -> None:
    folder = tmp_path / "in a folder"
    write(folder / "broken.py", "secret = 1\nopen('/etc/hidden/none.txt')\n")
    registry.load_directory(folder)
    with pytest.raises(AutoScorerError) as caught:
        registry.get("broken")
    (told,) = caught.value.details["not_loaded"]
    assert set(told) == {"source", "code", "message"}
    assert (told["source"], told["code"]) == ("broken.py", "SCORER_LOAD_ERROR")
    assert told["message"].startswith("broken.py:2: FileNotFoundError") and "none.txt" in told["message"]
    whole = json.dumps(caught.value.to_dict())
    assert str(tmp_path) not in whole and "in a folder" not in whole and "/etc" not in whole and "secret" not in whole


def test_a_folder_that_is_not_there_is_told(registry: ScorerRegistry, tmp_path: Path) -> None:
    with pytest.raises(AutoScorerError, match=r"none can't be read"):
        registry.load_directory(tmp_path / "none")
    assert registry.errors()[0].origin == "directory"


# --- asking --------------------------------------------------------------------------------------------------


def test_an_unknown_id_answers_with_the_known_ones_and_what_does_not_load(
    registry: ScorerRegistry, tmp_path: Path
) -> None:
    refused(registry, write(tmp_path / "broken.py", "1/0"))
    with pytest.raises(AutoScorerError) as caught:
        registry.get("clasification_f1")
    assert caught.value.code is ErrorCode.SCORER_NOT_FOUND
    assert "did you mean 'classification_f1'?" in caught.value.message
    assert caught.value.details["known"] == sorted(BUILTIN_MODULES)
    assert "broken.py" in caught.value.message
    with pytest.raises(AutoScorerError, match=r"'zzz' is registered\. Known: "):
        registry.get("zzz")


@pytest.mark.parametrize("scorer_id", BUILTIN_MODULES)
def test_every_builtin_is_there_and_its_module_alone_is_imported(scorer_id: str) -> None:
    code = f"""
import sys
from autoscorer.scorers.registry import ScorerRegistry
registry = ScorerRegistry()
assert {scorer_id!r} in registry.ids()
heavy = {{"numpy", "pandas", "sklearn", "scipy", "pyarrow", "prefect", "docker", "rich", "watchfiles", "hotcoco"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
entry = registry.get({scorer_id!r})
assert (entry.id, entry.origin, entry.status) == ({scorer_id!r}, "builtin", "ok")
assert len(entry.sha256) == 64 and entry.line
others = {{"pandas", "sklearn", "pyarrow", "prefect", "docker", "rich", "watchfiles"}}
print(sorted(others & set(sys.modules)), [m for m in {sorted(set(BUILTIN_MODULES.values()))} if m in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip() == str([]) + " " + str([BUILTIN_MODULES[scorer_id]])


def test_a_builtin_serves_every_registry_of_the_process() -> None:
    one, two = ScorerRegistry(entry_points=False), ScorerRegistry(entry_points=False)
    assert one.get("regression_rmse").scorer_class is two.get("regression_rmse").scorer_class
    assert {entry.id for entry in one.list()} == set(BUILTIN_MODULES)
    assert one.errors() == []


def test_register_outside_a_load_goes_to_the_registry_of_the_process() -> None:
    @register("defined_in_a_test")
    class First(BaseScorer):
        name = "defined_in_a_test"
        version = "1.0.0"

        def score(self, workspace: Path, params: dict[str, object]) -> Result:
            return Result(metrics={"score": 1.0})

    entry = get_registry().get("defined_in_a_test")
    assert (entry.scorer_class, entry.origin, entry.source) == (First, "code", Path(__file__))

    @register("defined_in_a_test")  # as when a notebook's cell is run again
    class Second(First):
        version = "1.0.1"

    assert get_registry().get("defined_in_a_test").scorer_class is Second
    with pytest.raises(AutoScorerError, match="taken by a built-in"):
        register("classification_f1")(First)
    with pytest.raises(AutoScorerError, match="expected a subclass of BaseScorer"):
        register("x")(ScorerParams)  # type: ignore[type-var]


def test_a_schema_that_cant_be_made_does_not_break_the_listing(registry: ScorerRegistry, tmp_path: Path) -> None:
    head = "from collections.abc import Callable\nfrom autoscorer.scorers.base import ScorerParams\n"
    head += "class MyParams(ScorerParams):\n    f: Callable[[int], int] = abs\n"
    text = source(head=head).replace('    name = "mine"', '    name = "mine"\n    Params = MyParams')
    registry.load_file(write(tmp_path / "mine.py", text))
    assert "can't be shown" in registry.get("mine").to_dict()["params_schema"]["description"]


def test_a_constructor_that_fails_is_a_scorer_error(registry: ScorerRegistry, tmp_path: Path) -> None:
    text = source().replace("    def score", "    def __init__(self):\n        1 / 0\n\n    def score")
    (entry,) = registry.load_file(write(tmp_path / "mine.py", text))
    with pytest.raises(AutoScorerError) as caught:
        entry.create()
    assert caught.value.code is ErrorCode.SCORER_ERROR


@pytest.mark.slow
def test_readers_never_see_half_a_version(registry: ScorerRegistry, tmp_path: Path) -> None:
    """A file with two scorers is swapped as a whole: no snapshot mixes two versions."""
    path = tmp_path / "pair.py"
    second = "\n@register('second')\nclass Second(Mine):\n    name = 'second'\n"
    write(path, source("first", version="0") + second)
    registry.load_file(path)
    done, seen = threading.Event(), set()

    def read() -> None:
        while not done.is_set():
            now = registry._state.current.entries
            seen.add(now["first"].version == now["second"].version)

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=lambda: [registry.reload_file(path) for _ in range(20)]) for _ in range(2)]
    for thread in (*readers, *writers):
        thread.start()
    for version in range(1, 30):
        write(tmp_path / "next", source("first", version=str(version)) + second).replace(path)
        registry.load_file(path)
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert seen == {True}
    assert registry.get("first").version == "29"


# --- entry points --------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """A folder of installed packages: real metadata, real modules."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def install(package: str, entry_points: dict[str, str], files: dict[str, str]) -> None:
        info = folder / f"{package}-3.1.dist-info"
        lines = "".join(f"{name} = {value}\n" for name, value in entry_points.items())
        write(info / "METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 3.1\n")
        write(info / "entry_points.txt", "[autoscorer.scorers]\n" + lines)
        for name, text in files.items():
            write(folder / name, text)
            monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
        importlib.invalidate_caches()

    before = set(sys.modules)
    yield install
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(folder) in str(sys.modules[name].__file__):
            del sys.modules[name]


def test_scorers_of_packages_are_found_when_a_name_is_missed(site) -> None:  # type: ignore[no-untyped-def]
    undecorated = source("ignored").replace('@register("ignored")\n', "")
    site(
        "plug-ins",
        {"by_class": "plug_class:Mine", "anything": "plug_module", "unasked": "plug_unasked"},
        {
            "plug_class.py": undecorated,
            "plug_module.py": source("by_module"),
            "plug_unasked.py": source("unasked"),
        },
    )
    registry = ScorerRegistry()
    assert "by_class" not in registry.ids()
    assert registry.get("by_class").origin == "entry_point"
    assert "plug_module" not in sys.modules
    entry = registry.get("by_module")
    assert entry.source is not None
    assert (entry.origin, entry.source.name, entry.line) == ("entry_point", "plug_module.py", 5)
    assert entry.sha256 == hashlib.sha256(entry.source.read_bytes()).hexdigest()
    assert {"by_class", "by_module", "unasked"} <= {e.id for e in registry.list()}
    # A second registry of the process finds them too, although the modules are imported by now.
    assert ScorerRegistry().get("by_module").origin == "entry_point"


def test_a_broken_package_stands_in_the_errors_and_breaks_nothing(site) -> None:  # type: ignore[no-untyped-def]
    site(
        "broken-plugins",
        {"exits": "plug_exits", "absent": "plug_absent:X", "wrong": "plug_wrong:x", "empty": "plug_empty",
         "clash": "plug_clash", "fine": "plug_fine"},
        {
            "plug_exits.py": "raise SystemExit(3)\n",
            "plug_wrong.py": "x = 3\n",
            "plug_empty.py": "",
            "plug_clash.py": source("classification_f1"),
            "plug_fine.py": source("fine"),
        },
    )  # fmt: skip
    registry = ScorerRegistry()
    with pytest.raises(AutoScorerError) as caught:
        registry.get("absent")
    assert caught.value.code is ErrorCode.SCORER_NOT_FOUND
    assert "entry point absent = plug_absent:X of broken-plugins 3.1 does not load" in caught.value.message
    assert "No module named 'plug_absent'" in caught.value.message
    assert "fine" in {entry.id for entry in registry.list()}
    told = {f.source.split()[2]: f.error.message for f in registry.errors() if f.origin == "entry_point"}
    assert set(told) == {"exits", "absent", "wrong", "empty", "clash"}
    assert "SystemExit: 3" in told["exits"]
    assert "expected a subclass of BaseScorer" in told["wrong"]
    assert "registers no scorer" in told["empty"]
    assert "taken by a built-in" in told["clash"]


def test_a_file_may_not_take_a_packages_id_whichever_comes_first(site, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    site("owner", {"owned": "plug_owner"}, {"plug_owner.py": source("owned")})
    path = write(tmp_path / "mine.py", source("owned"))
    fresh, met = ScorerRegistry(), ScorerRegistry()
    met.get("owned")
    assert "entry point owned = plug_owner of owner 3.1" in refused(fresh, path).message
    assert "plug_owner.py:5" in refused(met, path).message


# --- what an installation remembers --------------------------------------------------------------------------


def test_the_configuration_and_the_record_are_loaded_and_problems_are_only_told(
    tmp_path: Path, home: Path, registry: ScorerRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "folder" / "one.py", source("one"))
    (two,) = registry.load_file(write(tmp_path / "two.py", source("two")))
    record = ScorerManifest(home)
    assert record.read() == {}
    record.add(tmp_path / "two.py", [two])
    record.add(tmp_path / "gone.py", [two])
    config = Settings(scorers={"dirs": (tmp_path / "folder", tmp_path / "none"), "entry_points": False})
    fresh = load_configured(config, registry=ScorerRegistry())
    assert {"one", "two"} <= set(fresh.ids())
    assert {Path(f.source).name for f in fresh.errors()} == {"none", "gone.py"}
    assert "gone.py can't be read" in caplog.text
    entry = fresh.get("two")
    assert load_configured(config, registry=fresh).get("two") is entry
    assert record.remove(tmp_path / "gone.py") is not None
    assert record.remove(tmp_path / "gone.py") is None
    assert list(record.read()) == [tmp_path / "two.py"]


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"files": 3}', '{"files": {}, "more": 1}'])
def test_a_damaged_record_is_told_and_never_overwritten(tmp_path: Path, damaged: str) -> None:
    path = write(tmp_path / "scorers.json", damaged)
    with pytest.raises(AutoScorerError, match=r"scorers\.json can't be read"):
        ScorerManifest(tmp_path).read()
    with pytest.raises(AutoScorerError):
        ScorerManifest(tmp_path).remove(tmp_path / "x.py")
    assert path.read_text() == damaged


def test_records_of_several_processes_at_once_are_all_kept(tmp_path: Path, registry: ScorerRegistry) -> None:
    (entry,) = registry.load_file(write(tmp_path / "mine.py", source()))
    threads = [
        threading.Thread(target=ScorerManifest(tmp_path).add, args=(tmp_path / f"{n}.py", [entry])) for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ScorerManifest(tmp_path).read()) == 16


def test_documented_import_paths_stay_valid() -> None:
    from autoscorer.scorers import recorded, watch
    from autoscorer.scorers.registry import manifest, watcher

    assert recorded.RecordedFiles is manifest.ScorerManifest
    assert recorded.load_configured is manifest.load_configured
    assert watch.ScorerWatcher is watcher.ScorerWatcher
