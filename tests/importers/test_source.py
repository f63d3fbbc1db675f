"""The files of a bundle: what leads out of it, links, and what unpacks to too much are refused, wherever they stand."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.tasks.importers import import_codabench, source

from ..support.competitions import COMPETITION, write_bundle, zipped


def refused(bundle: Path, out: Path) -> tuple[ErrorCode, str]:
    with pytest.raises(AutoScorerError) as caught:
        import_codabench(bundle, out)
    assert not out.exists() and not [each for each in out.parent.iterdir() if each.name.startswith(".importing")]
    return caught.value.code, caught.value.message


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "..", ".", "", "ref\x00", "a\u202eb"])
def test_no_path_leads_out(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("x")
    task = {**COMPETITION["tasks"][0], "reference_data": name}
    code, message = refused(write_bundle(tmp_path / "bundle", tasks=[task]), tmp_path / "out")
    assert code is ErrorCode.BAD_FORMAT and "reference_data" in message


@pytest.mark.parametrize(
    "where", ["reference_data/more.txt", "reference_data", "scoring_program/more", "competition.yaml"]
)
def test_no_link_is_followed(tmp_path: Path, where: str) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "labels.txt").write_text("theirs\n")
    path = bundle / where
    if path.is_dir():
        path.rename(tmp_path / "moved")
    elif path.exists():
        path.rename(tmp_path / "elsewhere" / "labels.txt")
    path.symlink_to(tmp_path / ("elsewhere" if where == "reference_data" else "elsewhere/labels.txt"))
    code, message = refused(bundle, tmp_path / "out")
    assert code is ErrorCode.BAD_FORMAT and "link" in message


def test_a_fifo_and_a_name_that_shows_another_one(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    os.mkfifo(bundle / "reference_data" / "pipe")
    assert "plain file" in refused(bundle, tmp_path / "out")[1]
    (bundle / "reference_data" / "pipe").unlink()
    (bundle / "reference_data" / "gpj.\u202eexe").touch()
    assert "not seen" in refused(bundle, tmp_path / "out")[1]


def _escape(archive: zipfile.ZipFile) -> None:
    archive.writestr("../../escaped.txt", "x")


def _link(archive: zipfile.ZipFile) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(link, "/etc/hostname")


def _bomb(archive: zipfile.ZipFile) -> None:
    with archive.open("zeros", "w") as file:
        for _ in range(128):
            file.write(bytes(1024**2))


@pytest.mark.parametrize(("add", "told"), [(_escape, "leads out"), (_link, "is a link"), (_bomb, "bomb")])
@pytest.mark.parametrize("inner", [False, True])
def test_archives_that_attack(tmp_path: Path, add: Callable[[zipfile.ZipFile], None], told: str, inner: bool) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    if inner:
        task = {**COMPETITION["tasks"][0], "reference_data": "reference.zip"}
        write_bundle(bundle, tasks=[task])
    packed = bundle / "reference.zip" if inner else zipped(bundle, tmp_path / "bundle.zip")
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as archive:
        add(archive)
    code, message = refused(bundle if inner else packed, tmp_path / "out")
    assert code in (ErrorCode.INVALID_REQUEST, ErrorCode.PAYLOAD_TOO_LARGE) and told in message
    assert not (tmp_path / "escaped.txt").exists() and not (tmp_path.parent / "escaped.txt").exists()


def test_a_folder_with_more_files_than_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_LIMITS", source.ArchiveLimits(files=3, unpacked=1000))
    bundle = write_bundle(tmp_path / "bundle")
    for number in range(4):
        (bundle / "reference_data" / f"{number}.txt").touch()
    assert "more than 3 files" in refused(bundle, tmp_path / "out")[1]


def test_what_packing_tools_add_is_left_out(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "scoring_program" / ".DS_Store").touch()
    (bundle / "__MACOSX" / "scoring_program").mkdir(parents=True)
    (bundle / "__MACOSX" / "scoring_program" / "._score.py").touch()
    import_codabench(zipped(bundle, tmp_path / "bundle.zip"), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out/input/gt_program").iterdir()) == ["metadata.yaml", "score.py"]


def test_what_is_no_bundle(tmp_path: Path) -> None:
    assert refused(tmp_path / "nothing.zip", tmp_path / "out")[0] is ErrorCode.MISSING_FILE
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty", tmp_path / "out")[0] is ErrorCode.MISSING_FILE
    (tmp_path / "text.zip").write_text("no archive")
    assert refused(tmp_path / "text.zip", tmp_path / "out")[0] is ErrorCode.INVALID_REQUEST
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe", tmp_path / "out")[0] is ErrorCode.MISSING_FILE
