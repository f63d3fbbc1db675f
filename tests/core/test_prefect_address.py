"""Where a browser finds a flow run in Prefect's UI: only where it can get there."""

from __future__ import annotations

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.prefect_address import flow_run_page
from pydantic import ValidationError

HERE = "http://127.0.0.1:4200/api"


@pytest.mark.parametrize(
    ("api", "ui", "variable", "asked", "page"),
    [
        # The UI stands beside the API, for who is on that machine.
        (HERE, None, None, "127.0.0.1", "http://127.0.0.1:4200"),
        ("http://localhost:4200/api/", None, None, "localhost", "http://localhost:4200"),
        ("http://[::1]:4200/api", None, None, "::1", "http://[::1]:4200"),
        # Who comes from elsewhere would be led to a machine of their own.
        (HERE, None, None, "scores.example.org", None),
        (HERE, None, None, None, None),
        # A name of the installation's own network.
        ("http://prefect:4200/api", None, None, "127.0.0.1", None),
        # What somebody said counts for everybody.
        ("http://prefect:4200/api", "https://flows.example.org/", None, "scores.example.org", "https://flows.example.org"),
        (HERE, None, "http://flows.example.org", "scores.example.org", "http://flows.example.org"),
        (HERE, "https://first.example.org", "https://second.example.org", "::1", "https://first.example.org"),
        (HERE, None, "javascript:alert(1)", "scores.example.org", None),
    ],
)  # fmt: skip
def test_the_page_of_a_flow_run(
    api: str, ui: str | None, variable: str | None, asked: str | None, page: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_UI_URL", raising=False)
    if variable is not None:
        monkeypatch.setenv("PREFECT_UI_URL", variable)
    settings = Settings(prefect={"api_url": api, "ui_url": ui})
    found = flow_run_page(settings, "0123", asked=asked)
    assert found == (None if page is None else f"{page}/runs/flow-run/0123")


def test_a_link_that_would_run_something_is_no_address() -> None:
    with pytest.raises(ValidationError):
        Settings(prefect={"ui_url": "javascript:alert(1)"})
