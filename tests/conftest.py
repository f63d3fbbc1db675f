"""Fixtures that every test file may use: a configuration of its own, real backends, small workspaces."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.executors.files import remove_tree
from autoscorer.executors.records import RunRecords

# Here and not where they are used: each module that imported them would start an installation of its own, or build.
from .support import examples as examples  # its profile, before any test is read
from .support.browser import chromium as chromium
from .support.checkout import root_image as root_image
from .support.installation import installation as installation
from .support.markdown import BASE_IMAGE
from .support.prefect_server import end_services
from .support.shared import end_unneeded, in_order
from .support.workspaces import write_workspace

HERE = Path(__file__).parent
BUSYBOX = "autoscorer-test-busybox"
# What a test needs is told by its fixtures, so that no mark can be forgotten.
MARKS = {
    "docker": {"docker_client"},
    "prefect": {"server", "installation"},
    "browser": {"browser"},
    "postgres": {"postgres", "own_postgres"},
}


_homes = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="write tests/page/golden anew, instead of comparing")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs an engine, a Prefect server, a PostgreSQL or a browser, and put the files in their order."""
    in_order(items)
    for item in items:
        for mark, fixtures in MARKS.items():
            if fixtures & {*getattr(item, "fixturenames", ())}:
                item.add_marker(mark)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A server that tests shared ends with the last of their files, before fixtures of the next one take minutes."""
    end_unneeded(item.path)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With REQUIRE_ALL_TESTS set, as in CI, a skipped test is a failed one: nothing may be green unseen."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and os.environ.get("REQUIRE_ALL_TESTS") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where every test must run: {report.longrepr}"


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of its own for every test; nothing of the person's installation is read or written."""
    for name in list(os.environ):
        if name.startswith(("AUTOSCORER_", "SCORE_API_TOKEN")):
            monkeypatch.delenv(name)
    # Not by `mktemp`, which reads the names of all thousands that are there already.
    folder = tmp_path_factory.getbasetemp() / "homes" / str(next(_homes))
    folder.mkdir(parents=True)
    monkeypatch.setenv("AUTOSCORER_HOME", str(folder))
    yield folder
    # Runs that a test killed are staged outside of its folders, and with this home nobody knows of them any more.
    for record in RunRecords(folder).all():
        for place in record.elsewhere:
            remove_tree(place)


@pytest.fixture(autouse=True)
def no_services_stay() -> Iterator[None]:
    """What a flow in this process left in the background ends with its test, and disturbs no other."""
    yield
    end_services()


@pytest.fixture
def settings(home: Path) -> Settings:
    """The default configuration with that home."""
    return load_settings()


@pytest.fixture(scope="session")
def docker_client() -> Iterator[Any]:
    """A real Docker Engine. Without one the test is skipped, and CI fails if one was."""
    from autoscorer.core.errors import AutoScorerError
    from autoscorer.executors.docker.engine import connect

    try:
        client = connect(Settings())
    except AutoScorerError as error:
        pytest.skip(f"Docker does not answer: {error.message}")
    yield client
    client.close()


@pytest.fixture(scope="session")
def busybox(docker_client: Any) -> str:
    """A tiny image made from Debian's busybox-static, no registry needed."""
    subprocess.run([HERE / "images" / "build-busybox", BUSYBOX], check=True, capture_output=True)
    return BUSYBOX


@pytest.fixture(scope="session")
def python_image(docker_client: Any) -> str:
    """An image with Python in it, for models that a shell can't write; ``scripts/build-base-image`` makes it."""
    if not docker_client.images(name=BASE_IMAGE):
        pytest.skip(f"the image {BASE_IMAGE} is not there; scripts/build-base-image makes it")
    return BASE_IMAGE


@pytest.fixture
def make_workspace(tmp_path: Path) -> Callable[..., Path]:
    """Write a small classification workspace; keywords go into meta.json."""

    def make(name: str = "ws", *, truth: str | None = None, pred: str | None = None, **meta: Any) -> Path:
        truth = truth or "id,label\na,SECRET-TRUTH-1\nb,SECRET-TRUTH-2\n"
        return write_workspace(tmp_path, name, truth=truth, pred=pred, **meta)

    return make
