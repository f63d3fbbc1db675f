"""Workspaces are found under the roots and nowhere else, and are called by names that tell nothing of the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.config_sections import Scorers
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.scorers.registry.manifest import ScorerManifest
from autoscorer.service.workspaces.roots import WorkspaceRoots
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ..support.examples import examples

relaxed = hypothesis_settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)


def roots_of(*paths: Path) -> WorkspaceRoots:
    return WorkspaceRoots(Settings(workspace_roots=paths))


def refusal(roots: WorkspaceRoots, text: str) -> AutoScorerError:
    with pytest.raises(AutoScorerError) as caught:
        roots.resolve(text)
    return caught.value


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "team-a").mkdir(parents=True)
    return folder


@relaxed
@given(st.lists(names, min_size=1, max_size=3))
def test_a_name_leads_back_to_its_folder(tmp_path: Path, parts: list[str]) -> None:
    folder = tmp_path.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    roots = roots_of(tmp_path)
    found = roots.resolve(str(folder))
    assert found == folder.resolve()
    assert not roots.name(found).startswith("/")
    assert roots.resolve(roots.name(found)) == found


@relaxed
@given(st.lists(st.sampled_from(["a", "b", "data", "data-2", "x"]), min_size=1, max_size=3), st.integers(0, 2))
def test_with_several_roots_a_name_leads_back_too(tmp_path: Path, parts: list[str], which: int) -> None:
    # Two roots of one name, one within the other, and folders called as the roots are.
    several = [tmp_path / "data", tmp_path / "other" / "data", tmp_path / "data" / "x"]
    for each in several:
        each.mkdir(parents=True, exist_ok=True)
    roots = roots_of(*several)
    folder = several[which].joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    assert roots.resolve(roots.name(folder)) == folder
    assert roots.resolve(roots.name(several[which])) == several[which]
    assert roots.redact(f"in {folder}, twice") == f"in {roots.name(folder)}, twice"


@relaxed
@given(st.lists(st.sampled_from(["..", ".", "team-a", "out", "link", "inner", "", "etc"]), max_size=8), st.booleans())
def test_nothing_outside_of_the_roots_is_ever_found(tmp_path: Path, parts: list[str], absolute: bool) -> None:
    root, outside = tmp_path / "data", tmp_path / "out"
    (root / "team-a" / "inner").mkdir(parents=True, exist_ok=True)
    outside.mkdir(exist_ok=True)
    for link, target in ((root / "link", outside), (root / "team-a" / "link", root)):
        if not link.is_symlink():
            link.symlink_to(target)
    roots = roots_of(root)
    text = "/".join([str(root), *parts] if absolute else parts)
    try:
        found = roots.resolve(text)
    except AutoScorerError as error:
        assert error.code in {ErrorCode.FORBIDDEN, ErrorCode.WORKSPACE_NOT_FOUND, ErrorCode.INVALID_REQUEST}
        assert str(tmp_path) not in str(error)
    else:
        assert found.is_dir()
        assert found == root or root in found.parents
        assert found == found.resolve()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("..", ErrorCode.FORBIDDEN),
        ("team-a/../../etc", ErrorCode.FORBIDDEN),
        ("/etc", ErrorCode.FORBIDDEN),
        ("/no/such/folder", ErrorCode.FORBIDDEN),
        ("way-out", ErrorCode.FORBIDDEN),
        ("way-out/below", ErrorCode.FORBIDDEN),
        ("ring", ErrorCode.WORKSPACE_NOT_FOUND),
        ("team-b", ErrorCode.WORKSPACE_NOT_FOUND),
        ("file", ErrorCode.WORKSPACE_NOT_FOUND),
        ("file/below", ErrorCode.WORKSPACE_NOT_FOUND),
        ("x" * 300, ErrorCode.WORKSPACE_NOT_FOUND),
        ("x/" * 3000, ErrorCode.WORKSPACE_NOT_FOUND),
        ("", ErrorCode.INVALID_REQUEST),
        ("a\0b", ErrorCode.INVALID_REQUEST),
        ("\ud800", ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_is_refused_and_how(root: Path, text: str, code: ErrorCode) -> None:
    (root / "way-out").symlink_to("/etc")
    (root / "ring").symlink_to("ring")
    (root / "file").write_text("x")
    error = refusal(roots_of(root), text)
    assert error.code is code
    assert str(root) not in str(error) and "/etc" not in error.message.replace("../etc", "")
    assert len(error.message) < 500


def test_whether_something_exists_outside_is_not_told(root: Path) -> None:
    there, not_there = (refusal(roots_of(root), path).message for path in ("/usr/share", "/usr/nosuch"))
    assert there.replace("share", "nosuch") == not_there


def test_a_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(root)
    roots = roots_of(link)
    found = root.resolve() / "team-a"
    assert roots.resolve("team-a") == roots.resolve(f"{link}/team-a") == roots.resolve(f"{root}/team-a") == found
    assert roots.name(found) == "team-a"
    assert roots.redact([f"{link}/team-a", f"{root}/team-a", str(link)]) == ["team-a", "team-a", "."]


def test_a_link_within_the_roots_is_followed(root: Path) -> None:
    (root / "latest").symlink_to("team-a")
    roots = roots_of(root)
    assert roots.name(roots.resolve("latest")) == "team-a"


def test_a_name_that_is_no_text_is_not_found(root: Path) -> None:
    os.mkdir(os.fsencode(root) + b"/\xff")
    (root / "link").symlink_to("\udcff")
    assert refusal(roots_of(root), "link").code is ErrorCode.WORKSPACE_NOT_FOUND


def test_without_roots_it_is_the_current_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    roots = WorkspaceRoots(Settings())
    assert roots.name(roots.resolve("team-a")) == "team-a"
    assert roots.name(roots.resolve(".")) == "."
    assert refusal(roots, "/etc").code is ErrorCode.FORBIDDEN


def test_the_whole_file_system_may_be_a_root(root: Path) -> None:
    roots = roots_of(Path("/"))
    assert roots.resolve(roots.name(roots.resolve(str(root)))) == root.resolve()


def test_what_a_batch_may_name(root: Path) -> None:
    roots = roots_of(root)
    (root / "round[1]").mkdir()
    (root / "round[1]" / "b*").mkdir()
    assert roots.resolve_item("team-a") == str(root / "team-a")
    assert roots.resolve_item("round[1]") == str(root / "round[1]")
    assert roots.resolve_item("round[1]/b*") == str(root / "round[1]" / "b*")
    # What stands before the pattern is a folder's name and no pattern.
    assert roots.resolve_item("team-a/*") == f"{root}/team-a/*"
    assert roots.resolve_item(f"{root}/team-a/**/x?") == f"{root}/team-a/**/x?"
    assert roots.resolve_item("*") == f"{root}/*"
    for text, code in [
        ("*/../..", ErrorCode.INVALID_REQUEST),
        ("**/**", ErrorCode.INVALID_REQUEST),
        ("/etc/*", ErrorCode.FORBIDDEN),
        ("/*", ErrorCode.FORBIDDEN),
        ("../*", ErrorCode.FORBIDDEN),
        ("nothing/*", ErrorCode.WORKSPACE_NOT_FOUND),
        ("team-b", ErrorCode.WORKSPACE_NOT_FOUND),
    ]:
        with pytest.raises(AutoScorerError) as caught:
            roots.resolve_item(text)
        assert caught.value.code is code, text
        assert str(root) not in str(caught.value)


def test_a_workspace_has_a_meta_json_and_lies_in_no_other(root: Path) -> None:
    nested = root / "team-a" / "input" / "forged"
    nested.mkdir(parents=True)
    roots = roots_of(root)
    assert roots.resolve_item(".") == str(root)
    for text in ("team-a", "."):
        assert refusal_of_workspace(roots, text).code is ErrorCode.WORKSPACE_NOT_FOUND
    (root / "team-a" / "meta.json").write_text("{}")
    (nested / "meta.json").write_text("{}")
    (root / "link").symlink_to(nested)
    assert roots.workspace("team-a") == root / "team-a"
    assert roots.resolve_item("team-a") == str(root / "team-a")
    for text in ("team-a/input", "team-a/input/forged", str(nested), "link"):
        for find in (roots.workspace, roots.resolve_item):
            with pytest.raises(AutoScorerError) as caught:
                find(text)
            assert caught.value.code is ErrorCode.FORBIDDEN, text
            assert str(root) not in str(caught.value)
    for pattern in ("team-a/*", "team-a/input/*"):
        with pytest.raises(AutoScorerError) as caught:
            roots.resolve_item(pattern)
        assert caught.value.code is ErrorCode.FORBIDDEN, pattern
    # A root that is a workspace itself holds no others; one within another root is named on purpose.
    (root / "meta.json").write_text("{}")
    assert roots.workspace(".") == root
    assert refusal_of_workspace(roots, "team-a").code is ErrorCode.FORBIDDEN
    assert roots_of(root, root / "team-a").workspace(str(root / "team-a")) == root / "team-a"


def refusal_of_workspace(roots: WorkspaceRoots, text: str) -> AutoScorerError:
    with pytest.raises(AutoScorerError) as caught:
        roots.workspace(text)
    return caught.value


def test_the_hosts_paths_are_taken_out_of_every_text(root: Path, home: Path) -> None:
    import autoscorer

    package = Path(autoscorer.__file__).parent
    roots = roots_of(root)
    value = {
        "message": f"{root}/team-a/meta.json: bad. See {root}. Log: file://{root}/team-a/logs",
        str(root / "key"): [f"{home}/ledger.sqlite3", {"code": f'File "{package}/core/x.py"'}, 1, None, True, 0.5],
    }
    assert roots.redact(value) == {
        "message": "team-a/meta.json: bad. See .. Log: file://team-a/logs",
        "key": ["<home>/ledger.sqlite3", {"code": 'File "<autoscorer>/core/x.py"'}, 1, None, True, 0.5],
    }


def test_only_whole_names_are_taken_out(tmp_path: Path) -> None:
    roots = roots_of(Path("/data"))
    for text in ("/database/x", "/data-2/x", "/data.old", "/mnt/data/x", "a/data/b", "s3://data"):
        assert roots.redact(text) == text
    for text, redacted in {
        "/data": ".",
        "/data/": "./",
        "/data//x": "x",
        "'/data'": "'.'",
        "at /data.": "at ..",
    }.items():
        assert roots.redact(text) == redacted


def test_nor_do_texts_tell_where_scorers_lie_or_what_their_code_is(root: Path, home: Path) -> None:
    (root.parent / "link").symlink_to("/srv/real", target_is_directory=True)
    configured = Scorers(dirs=(Path("/opt/company/scorers"), root.parent / "link", root / "team-a"))
    roots = WorkspaceRoots(Settings(workspace_roots=(root,), home=home, scorers=configured))
    value = {
        "message": f"/opt/company/scorers/a.py:1: bad; /srv/real/b.py; {root}/team-a/c.py; /elsewhere/d.py",
        "details": {"file": "/opt/company/scorers/a.py", "traceback": ["secret = 1"]},
    }
    assert roots.redact(value) == {
        "message": "…/scorers/a.py:1: bad; …/real/b.py; team-a/c.py; /elsewhere/d.py",
        "details": {"file": "…/scorers/a.py"},
    }
    recorded = ScorerManifest(home)
    recorded.watch(Path("/elsewhere"))
    recorded.watch(Path("/mnt/other/e.py"))
    assert roots.redact(["/elsewhere/d.py", "/mnt/other/e.py", "/mnt/other/f.py"]) == [
        "…/elsewhere/d.py",
        "…/e.py",
        "…/other/f.py",
    ]
    recorded.unwatch(Path("/elsewhere"))
    assert roots.redact("/opt/company/scorers/a.py") == "…/scorers/a.py"
    recorded.path.write_text("damaged")
    assert roots.redact("/opt/company/scorers/a.py") == "…/scorers/a.py"


def test_what_is_redacted_can_be_sent(root: Path) -> None:
    assert roots_of(root).redact(["é", "a\ud800", {"\udfff": 1}]) == ["é", "a\\ud800", {"\\udfff": 1}]
