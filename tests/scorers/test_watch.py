"""Hot reload with real files and the real file watcher: what lies on disk is what the next run uses."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from autoscorer.core.errors import AutoScorerError
from autoscorer.scorers.registry import ScorerRegistry
from autoscorer.scorers.registry import watcher as watch
from autoscorer.scorers.registry.manifest import ScorerManifest
from autoscorer.scorers.registry.watcher import ScorerWatcher, WatchEvent

# What is promised is 2 s; a loaded machine gets more, and no test waits longer than it must.
PATIENCE = 300.0

SOURCE = """\
from autoscorer.schemas.result import Result
from autoscorer.scorers.base import BaseScorer
from autoscorer.scorers.registry import register
{head}

@register("{scorer_id}")
class Mine(BaseScorer):
    name = "{scorer_id}"
    version = "1.0.0"

    def score(self, workspace, params):
        {wait}
        return Result(metrics={{"score": float({value})}})
"""


def source(value: object, scorer_id: str = "mine", head: str = "", wait: str = "pass") -> str:
    return SOURCE.format(value=value, scorer_id=scorer_id, head=head, wait=wait)


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.01)


@pytest.fixture
def registry() -> ScorerRegistry:
    return ScorerRegistry(entry_points=False)


class Bench:
    """A watcher, its registry, and what it told."""

    def __init__(self, registry: ScorerRegistry) -> None:
        self.registry = registry
        self.events: list[WatchEvent] = []
        self.watchers: list[ScorerWatcher] = []

    def watch(self, *paths: Path, **kwargs: object) -> ScorerWatcher:
        watcher = ScorerWatcher(paths, registry=self.registry, on_event=self.events.append, **kwargs)  # type: ignore[arg-type]
        self.watchers.append(watcher)
        return watcher.start()

    def value(self, scorer_id: str = "mine") -> float | None:
        try:
            return self.registry.get(scorer_id).create().score(Path("."), {}).metrics["score"]
        except AutoScorerError:
            return None

    def becomes(self, value: object, scorer_id: str = "mine") -> None:
        until(lambda: self.value(scorer_id) == value, f"{scorer_id} == {value}, is {self.value(scorer_id)}")

    def told(self, kind: str) -> list[WatchEvent]:
        return [event for event in self.events if event.kind == kind]


@pytest.fixture
def bench(registry: ScorerRegistry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    # The same code on a quicker clock.
    monkeypatch.setattr(watch, "TICK", 0.1)
    monkeypatch.setattr(watch, "GONE_AFTER", 0.3)
    bench = Bench(registry)
    yield bench
    for watcher in bench.watchers:
        watcher.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "autoscorer-scorers"]
    assert bench.told("error") == []


def save_in_place(path: Path, text: str) -> None:
    path.write_text(text)


def save_by_rename(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.swp")
    temporary.write_text(text)
    os.replace(temporary, path)


def save_by_backup(path: Path, text: str) -> None:
    """As vim does: the old file moves away, then a new one is written."""
    if path.exists():
        os.rename(path, path.with_name(path.name + "~"))
    path.write_text(text)


def save_by_deletion(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("save", [save_in_place, save_by_rename, save_by_backup, save_by_deletion])
@pytest.mark.parametrize("watched", ["file", "folder"])
def test_every_way_to_save_is_seen_and_the_scorer_is_never_missing(
    bench: Bench, tmp_path: Path, save: Callable[[Path, str], None], watched: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source(0))
    bench.watch(path if watched == "file" else tmp_path)
    assert bench.value() == 0  # what is there is loaded once start() returns
    for value in (1, 2):
        save(path, source(value))
        bench.becomes(value)
    assert bench.told("removed") == []


def test_ten_saves_in_a_row_end_with_the_last(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source(0))
    bench.watch(tmp_path)
    for value in range(1, 11):
        save_in_place(path, source(value % 10))  # all of one size
    save_in_place(path, source(7))
    bench.becomes(7)


def test_a_run_under_way_finishes_with_the_class_it_began_with(bench: Bench, tmp_path: Path) -> None:
    gate, began = threading.Event(), threading.Event()
    path = tmp_path / "mine.py"
    path.write_text(source("VALUE", head="VALUE = 1", wait="params and (params['began'].set(), params['gate'].wait())"))
    bench.watch(tmp_path)
    entry = bench.registry.get("mine")
    results = []
    run = threading.Thread(
        target=lambda: results.append(entry.create().score(Path("."), {"gate": gate, "began": began}))
    )
    run.start()
    assert began.wait(PATIENCE)
    save_by_rename(path, source(2))
    bench.becomes(2)
    path.unlink()
    until(lambda: bench.told("removed"), "the removal")
    gate.set()
    run.join()
    assert results[0].metrics == {"score": 1.0}


def test_a_broken_save_keeps_the_last_good_version_and_shows_its_error(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source(1))
    bench.watch(tmp_path)
    save_in_place(path, source(2) + "\nx = (\n")
    until(lambda: bench.registry.get("mine").status == "stale", "stale")
    assert bench.value() == 1
    assert "SyntaxError" in (bench.registry.get("mine").error or "")
    # The registry has it before the listener is told.
    until(lambda: bench.told("failed"), "the failure")
    assert "SyntaxError" in (bench.told("failed")[0].error or "")
    save_in_place(path, source(3))
    bench.becomes(3)
    assert bench.registry.get("mine").status == "ok"
    assert bench.registry.errors() == []


def test_a_broken_file_is_run_once_a_save_not_twice_a_second(bench: Bench, tmp_path: Path) -> None:
    counter = tmp_path / "count"
    text = f"with open({str(counter)!r}, 'a') as file:\n    file.write('.')\n1/0\n"
    (tmp_path / "broken.py").write_text(text)
    (tmp_path / "mine.py").write_text(source(0))
    bench.watch(tmp_path)
    for value in (1, 2, 3):
        save_in_place(tmp_path / "mine.py", source(value))
        bench.becomes(value)
    assert counter.read_text() == "."
    until(lambda: bench.told("failed"), "the failure")
    assert len(bench.told("failed")) == 1


@pytest.mark.slow
def test_a_file_that_does_not_exist_yet_that_goes_and_comes_back(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "not" / "yet" / "mine.py"
    bench.watch(path)
    assert bench.value() is None
    path.parent.mkdir(parents=True)
    path.write_text(source(1))
    bench.becomes(1)
    path.unlink()
    bench.becomes(None)
    until(lambda: bench.told("removed"), "the removal")
    assert bench.told("removed")[0].ids == ("mine",)
    path.write_text(source(1))
    bench.becomes(1)
    shutil.rmtree(tmp_path / "not")
    bench.becomes(None)
    path.parent.mkdir(parents=True)
    path.write_text(source(2))
    bench.becomes(2)
    # The folder was made anew: its saves are still seen.
    save_by_rename(path, source(3))
    bench.becomes(3)


@pytest.mark.slow
def test_a_folder_gains_loses_and_renames_files(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "later"
    bench.watch(folder)
    folder.mkdir()
    (folder / "one.py").write_text(source(1, "one"))
    (folder / "test_one.py").write_text("raise AssertionError('must not run')")
    (folder / "_helper.py").write_text("raise AssertionError('must not run')")
    bench.becomes(1, "one")
    (folder / "two.py").write_text(source(2, "two"))
    bench.becomes(2, "two")
    (folder / "one.py").rename(folder / "renamed.py")
    # For a moment nobody has it: a file may not take what another one still has.
    until(lambda: bench.registry.has("one") and bench.registry.get("one").source == folder / "renamed.py", "renamed")
    (folder / "two.py").unlink()
    bench.becomes(None, "two")
    assert bench.value("one") == 1
    assert bench.registry.errors() == []


def test_an_id_that_becomes_free_goes_to_the_file_that_waited(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(source(1, "same"))
    (tmp_path / "b.py").write_text(source(2, "same"))
    bench.watch(tmp_path)
    assert bench.value("same") == 1
    assert "both define it" in bench.registry.errors()[0].error.message
    save_in_place(tmp_path / "a.py", source(1, "other"))
    bench.becomes(2, "same")
    assert bench.registry.errors() == []


def test_a_link_is_followed_when_its_target_or_the_link_changes(bench: Bench, tmp_path: Path) -> None:
    """As Kubernetes mounts a ConfigMap: mine.py -> ..data/mine.py, ..data -> a folder of the day."""
    mount = tmp_path / "mount"
    for name, value in (("day1", 1), ("day2", 2)):
        (mount / name).mkdir(parents=True)
        (mount / name / "mine.py").write_text(source(value))
    (mount / "..data").symlink_to("day1")
    (mount / "mine.py").symlink_to("..data/mine.py")
    bench.watch(mount)
    assert bench.value() == 1
    (mount / "..next").symlink_to("day2")
    os.replace(mount / "..next", mount / "..data")
    bench.becomes(2)
    save_in_place(mount / "day2" / "mine.py", source(3))
    bench.becomes(3)
    assert [s.path for s in bench.registry.sources()] == [mount / "mine.py"]


def test_a_changed_helper_reloads_what_imports_it(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(source("VALUE", head="from ._helper import VALUE"))
    bench.watch(tmp_path)
    assert "no _helper.py lies beside" in bench.registry.errors()[0].error.message
    (tmp_path / "_helper.py").write_text("VALUE = 1")
    bench.becomes(1)
    save_by_rename(tmp_path / "_helper.py", "VALUE = 2")
    bench.becomes(2)
    save_in_place(tmp_path / "_helper.py", "VALUE = (")
    until(lambda: bench.registry.get("mine").status == "stale", "stale")
    assert bench.value() == 2


def test_a_file_loaded_by_other_means_is_watched_too(bench: Bench, tmp_path: Path) -> None:
    bench.watch()
    path = tmp_path / "mine.py"
    path.write_text(source(1))
    bench.registry.load_file(path)
    save_in_place(path, source(2))
    bench.becomes(2)
    bench.registry.unload_file(path)
    save_in_place(path, source(3))
    (tmp_path / "other.py").write_text(source(1, "other"))
    bench.registry.load_file(tmp_path / "other.py")
    save_in_place(tmp_path / "other.py", source(2, "other"))
    bench.becomes(2, "other")
    assert bench.value() is None


def test_what_is_unloaded_stays_so_until_it_is_saved_again(bench: Bench, tmp_path: Path) -> None:
    for name in ("mine", "other"):
        (tmp_path / f"{name}.py").write_text(source(1, name))
    bench.watch(tmp_path)
    bench.registry.unload_file(tmp_path / "mine.py")
    save_in_place(tmp_path / "other.py", source(2, "other"))
    bench.becomes(2, "other")
    assert bench.value() is None
    save_in_place(tmp_path / "mine.py", source(3))
    bench.becomes(3)


def test_the_record_of_another_process_is_followed(bench: Bench, tmp_path: Path, home: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source(1))
    other = ScorerRegistry(entry_points=False)
    bench.watch(recorded=ScorerManifest(home))
    ScorerManifest(home).add(path, other.load_file(path))
    bench.becomes(1)
    save_by_rename(path, source(2))
    bench.becomes(2)
    ScorerManifest(home).remove(path)
    bench.becomes(None)


@pytest.mark.slow
def test_nothing_a_file_or_a_callback_does_ends_the_watching(registry: ScorerRegistry, tmp_path: Path) -> None:
    def fails(event: WatchEvent) -> None:
        raise RuntimeError("the callback")

    path = tmp_path / "mine.py"
    path.write_text(source(0))
    bench = Bench(registry)
    with ScorerWatcher([tmp_path], registry=registry, on_event=fails):
        for fault in ("raise SystemExit", "raise KeyboardInterrupt", "f = lambda: f()\nf()", "import gone_missing"):
            save_in_place(path, source(0) + fault)
            until(lambda: registry.get("mine").status == "stale", fault)
            save_in_place(path, source(1))
            until(lambda: registry.get("mine").status == "ok", "ok again")
        path.unlink()
        os.mkfifo(path)
        until(lambda: "plain file" in str(registry.errors()), "a FIFO refused")
        path.unlink()
        path.mkdir()
        save_in_place(tmp_path / "other.py", source(2, "other"))
        bench.becomes(2, "other")


def test_where_no_events_come_the_files_are_looked_at_all_the_same(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network file system, or when the kernel has no watches left."""
    import watchfiles

    def no_watches(*paths: object, **options: object) -> object:
        raise OSError("OS file watch limit reached.")

    monkeypatch.setattr(watchfiles, "watch", no_watches)
    path = tmp_path / "mine.py"
    path.write_text(source(1))
    bench.watch(tmp_path)
    save_in_place(path, source(2))
    bench.becomes(2)
    save_in_place(path, source(3))
    bench.becomes(3)
    assert [e.error for e in bench.told("error")] == ["OSError: OS file watch limit reached."]
    bench.events.clear()


def test_start_and_stop_may_be_called_again_and_leave_no_thread(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source(1))
    watcher = bench.watch(path)
    assert watcher.start() is watcher
    assert len([t for t in threading.enumerate() if t.name == "autoscorer-scorers"]) == 1
    watcher.stop()
    watcher.stop()
    save_in_place(path, source(2))
    watcher.start()
    assert bench.value() == 2  # what changed in between is seen at the start
    save_in_place(path, source(3))
    bench.becomes(3)
    ScorerWatcher([path]).stop()  # never started


def test_the_callback_may_stop_the_watcher(registry: ScorerRegistry, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source(1))
    watcher = ScorerWatcher([path], registry=registry, on_event=lambda event: event.kind == "failed" and watcher.stop())
    watcher.start()
    save_in_place(path, "1/0")
    until(lambda: not [t for t in threading.enumerate() if t.name == "autoscorer-scorers"], "the end of the thread")
