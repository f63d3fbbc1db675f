"""A meta.json that was read goes to the process that scores as it is: nobody reads the file a second time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from autoscorer.core.errors import AutoScorerError, InvalidWorkspace
from autoscorer.core.meta import Meta, read_meta
from autoscorer.core.workspace import Workspace

FULL = {
    "job_id": "job-7",
    "scorer": "classification_f1",
    "params": {"pass_threshold": 0.5, "deep": [{"a": [1, None, "é\u2028"]}]},
    "container": {"image": "team/model:1", "cmd": ["python", "x.py"], "env": {"A": "1"}, "shm_size": "64Mi"},
    "resources": {"cpu": 0.5, "memory": "4Gi", "gpus": 1},
    "time_limit": 12.5,
    "data": {"encoding": "gbk", "custom_fields": {"x": 1e300}},
    "version": 3,
}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(FULL),
        "{}",
        "[]",
        "not JSON",
        "",
        None,
        '{"params": {"x": NaN}, "scorer": "a"}',
        '{"params": {"x": "\\ud800"}, "scorer": "a"}',
        '{"scorer": "a", "timeout": -1, "unknown": 2}',
        '{"scorer": "a", "scorer": "b"}',
        '{"scorer": "a", "params": ' + '{"x": ' * 500 + "1" + "}" * 501,
        '{"scorer": "a", "params": ' + "[" * 100_000,
    ],
    ids=[
        "full",
        "empty",
        "list",
        "text",
        "nothing",
        "absent",
        "nan",
        "surrogate",
        "problems",
        "twice",
        "deep",
        "deeper",
    ],
)
@pytest.mark.parametrize("name", ["plain", "back\\slash\nand more", b"\xff\xfe".decode("utf-8", "surrogateescape")])
def test_it_is_the_same_in_another_process(tmp_path: Path, text: str | None, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    if text is not None:
        (root / "meta.json").write_text(text)
    meta = read_meta(Workspace(root))
    sent = json.dumps(meta.to_dict(), allow_nan=False)
    again = Meta.from_dict(json.loads(sent))
    # As text, in which NaN is NaN.
    assert repr((again.known, again.asked)) == repr((meta.known, meta.asked))
    if meta.error is None:
        assert again.error is None and again.job == meta.job
        return
    assert again.error is not None and type(again.error) is type(meta.error)
    assert again.error.to_dict() == meta.error.to_dict()
    with pytest.raises(AutoScorerError, match="INVALID_META"):
        again.job  # noqa: B018


def test_several_problems_stay_several(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text('{"timeout": -1, "unknown": 2, "scorer": "mine"}')
    meta = read_meta(Workspace(tmp_path))
    again = Meta.from_dict(meta.to_dict())
    assert isinstance(again.error, InvalidWorkspace) and len(again.error.details["problems"]) == 2
    assert again.known is None and again.asked is not None and again.asked.scorer == "mine"
