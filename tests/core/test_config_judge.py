"""Models that judge and that embed, as the operator configures them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import load_settings
from autoscorer.core.config_origins import origins
from autoscorer.core.errors import AutoScorerError, ErrorCode, Stage

SECRET = "sk-SECRET-1234"
PROFILE = {"base_url": "https://judge.example/v1/", "model": "large", "models": ["small", "large"], "api_key": SECRET}


def load(tmp_path: Path, **sections: Any) -> Any:
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(sections))  # JSON is YAML
    return load_settings(file)


def wrong(tmp_path: Path, **sections: Any) -> str:
    with pytest.raises(AutoScorerError) as caught:
        load(tmp_path, **sections)
    assert (caught.value.code, caught.value.stage) == (ErrorCode.INVALID_REQUEST, Stage.CONFIG)
    return caught.value.message


def test_without_configuration_there_is_no_judge_and_no_limit_to_what_one_costs(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.judge.default is None and settings.judge.profiles == {} and settings.embeddings.profiles == {}
    assert (settings.judge.concurrency, settings.judge.deadline, settings.judge.cache) == (64, 600, 256 * 1024**2)
    assert not settings.judge.budget.limits_money and not settings.judge.budget.limits_days


def test_a_profile_is_read_with_its_url_without_a_slash_at_the_end(tmp_path: Path) -> None:
    settings = load(tmp_path, judge={"default": "main", "profiles": {"main": PROFILE}, "cache": 0})
    profile = settings.judge.profiles["main"]
    assert profile.base_url == "https://judge.example/v1" and profile.all_models == ("large", "small")
    assert (profile.concurrency, profile.timeout, profile.max_attempts, profile.votes) == (16, 60, 5, 1)
    assert (profile.structured, profile.temperature, profile.price) == ("auto", 0, None)
    assert settings.judge.cache == 0


def test_both_are_read_from_the_environment_the_profiles_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_JUDGE__DEFAULT", "main")
    monkeypatch.setenv("AUTOSCORER_JUDGE__PROFILES", json.dumps({"main": PROFILE}))
    monkeypatch.setenv("AUTOSCORER_EMBEDDINGS__PROFILES", json.dumps({"e": {**PROFILE, "price": {"prompt": 0.1}}}))
    settings = load_settings()
    assert settings.judge.default == "main" and settings.judge.profiles["main"].model == "large"
    price = settings.embeddings.profiles["e"].price
    assert price is not None and price.prompt == 0.1
    assert origins(settings)["judge.profiles"].source == "environment"


def test_a_key_is_masked_wherever_settings_are_shown(tmp_path: Path) -> None:
    settings = load(tmp_path, judge={"profiles": {"main": PROFILE}}, embeddings={"profiles": {"e": PROFILE}})
    assert settings.judge.profiles["main"].api_key.get_secret_value() == SECRET
    shown = [settings.to_dict(), origins(settings), settings.judge, repr(settings), settings.given]
    assert SECRET not in " ".join(map(str, shown))


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({"base_url": f"https://user:{SECRET}@judge.example/v1"}, "no user and no password"),
        ({"base_url": SECRET}, "must begin with http"),
        ({"base_url": f"https://[{SECRET}"}, "it is no URL"),
        ({"base_url": f"https://judge.example:{SECRET}/v1"}, "it is no URL"),
        ({"base_url": f"https://judge.example/v1?key={SECRET}"}, "must end with its path"),
        ({"base_url": f"ftp://judge.example/{SECRET}"}, "must begin with http"),
        ({"base_url": f"https://judge.example/v1\n{SECRET}"}, "white space"),
        ({"api_key": f"{SECRET}\r\nHost: other"}, "printable ASCII"),
        ({"api_key": f"Bearer {SECRET}"}, "no white space"),
        ({"api_key": [SECRET]}, "api_key"),
        ({"concurrency": SECRET}, "concurrency"),
        ({"concurrency": 0}, "concurrency"),
        ({"price": {"prompt": SECRET}}, "price"),
        ({"structured": SECRET}, "structured"),
        ({"apikey": SECRET}, "did you mean 'api_key'?"),
        ({"price": {"promt": SECRET, "completion": 1}}, "did you mean 'prompt'?"),
    ],
)
def test_a_wrong_profile_is_named_and_never_shows_what_stands_there(
    tmp_path: Path, profile: dict[str, Any], words: str
) -> None:
    message = wrong(tmp_path, judge={"profiles": {"main": {**PROFILE, **profile}}})
    assert words in message and "judge.profiles.main" in message
    assert "SECRET" not in message


@pytest.mark.parametrize("section", ["judge", "embeddings"])
def test_a_default_names_a_profile(tmp_path: Path, section: str) -> None:
    message = wrong(tmp_path, **{section: {"default": "other", "profiles": {"main": PROFILE}}})
    assert "default names no profile; there are: main" in message


def test_a_name_of_a_profile_is_a_plain_word(tmp_path: Path) -> None:
    assert "judge.profiles" in wrong(tmp_path, judge={"profiles": {"../main": PROFILE}})


def test_profiles_in_the_environment_that_are_no_json_show_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_JUDGE__PROFILES", "{main: " + SECRET)
    with pytest.raises(AutoScorerError) as caught:
        load_settings()
    assert "judge" in caught.value.message and "SECRET" not in caught.value.message
