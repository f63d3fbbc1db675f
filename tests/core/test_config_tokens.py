"""The tokens of the configuration: every form, what is wrong told without a secret, and what an @ means."""

from __future__ import annotations

import pytest
from autoscorer.core.config import load_settings
from autoscorer.core.config_tokens import ApiToken, parse_tokens
from autoscorer.core.errors import AutoScorerError, ErrorCode
from hypothesis import given
from hypothesis import strategies as st

SECRET = "pnu73915428"


def of(*benchmarks: str) -> frozenset[str]:
    return frozenset(benchmarks)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", ()),
        (" , ,", ()),
        ("submit:t", (ApiToken("submit", "t"),)),
        ("submit:t@team-a", (ApiToken("submit", "t", "team-a"),)),
        ("organiser:t@flowers", (ApiToken("organiser", "t", benchmarks=of("flowers")),)),
        ("organiser:t@flowers+round-1/cats", (ApiToken("organiser", "t", benchmarks=of("flowers", "round-1/cats")),)),
        ("admin:t", (ApiToken("admin", "t"),)),
        # Colons belong to the token; so does an @ before the last one.
        ("submit:a:b", (ApiToken("submit", "a:b"),)),
        ("submit:a@b@team-a", (ApiToken("submit", "a@b", "team-a"),)),
        ("organiser:a@b@flowers", (ApiToken("organiser", "a@b", benchmarks=of("flowers")),)),
        # Of no team, and yet with an @.
        ("submit:pa@ss@", (ApiToken("submit", "pa@ss"),)),
        ("submit:p@", (ApiToken("submit", "p"),)),
        # An admin's is all of it.
        ("admin:pa@ss", (ApiToken("admin", "pa@ss"),)),
        # The same twice, and with the stronger role besides.
        ("submit:t,submit:t", (ApiToken("submit", "t"),)),
        ("submit:t@a,submit:t@a", (ApiToken("submit", "t", "a"),)),
        ("admin:t,submit:t@a", (ApiToken("admin", "t"),)),
        ("submit:t,submit:u@a,admin:t", (ApiToken("admin", "t"), ApiToken("submit", "u", "a"))),
    ],
)
def test_each_form_is_read(text: str, tokens: tuple[ApiToken, ...]) -> None:
    assert parse_tokens(text) == tokens


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SECRET, "entry 1 is not of the form"),
        (f"submit:ok,{SECRET}:x", "entry 2 is not of the form"),
        ("submit:", "entry 1 is not of the form"),
        # What was a token with an @ before there were teams is no other token now, where that can be told.
        (f"submit:{SECRET}@SS", "entry 1 has no team after its last @"),
        (f"submit:{SECRET}@a.b", "entry 1 has no team after its last @"),
        (f"submit:@{SECRET}", "entry 1 has no team after its last @"),
        ("submit:@", "entry 1 has no team after its last @"),
        (f"submit:{SECRET}@{'a' * 65}", "entry 1 has no team after its last @"),
        (f"organiser:{SECRET}", "entry 1 names no benchmarks"),
        (f"organiser:{SECRET}@", "entry 1 names no benchmarks"),
        (f"organiser:{SECRET}@flowers+", "entry 1 names no benchmarks"),
        (f"organiser:{SECRET}@../flowers", "entry 1 names no benchmarks"),
        (f"organiser:{SECRET}@/srv/flowers", "entry 1 names no benchmarks"),
        (f"organiser:@{SECRET}", "entry 1 names no benchmarks"),
        (f"submit:{SECRET}@a,submit:{SECRET}@b", "the entries 1 and 2 give the same token to different teams"),
        (f"submit:{SECRET}@a,admin:x,submit:{SECRET}", "the entries 1 and 3 give the same token to different teams"),
        (f"submit:{SECRET}@a,organiser:{SECRET}@a", "the entries 1 and 2 give the same token to different teams"),
    ],
)
def test_what_is_wrong_is_told_by_its_number_and_never_by_the_token(
    text: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_API_TOKENS", text)
    with pytest.raises(AutoScorerError) as caught:
        load_settings()
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert why in caught.value.message and "api_tokens" in caught.value.message
    assert SECRET not in str(caught.value.to_dict())


def test_a_token_is_shown_by_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_API_TOKENS", f"submit:{SECRET}@team-a")
    settings = load_settings()
    assert SECRET not in repr(settings.tokens) + repr(settings) + str(settings.to_dict())


def test_the_token_of_the_first_systems_service_is_no_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_API_TOKENS", f"submit:{SECRET}@team-a")
    monkeypatch.setenv("SCORE_API_TOKEN", SECRET)
    assert load_settings().tokens == (ApiToken("submit", SECRET, "team-a"),)


words = st.text(st.sampled_from("abz09_-@:+./A é"), min_size=1, max_size=8)


@given(
    entries=st.lists(
        st.tuples(st.sampled_from(["submit", "organiser", "admin", "x"]), words, words | st.none()), max_size=4
    )
)
def test_whatever_is_given_is_read_or_refused(entries: list[tuple[str, str, str | None]]) -> None:
    text = ",".join(f"{role}:{token}" + ("" if of is None else f"@{of}") for role, token, of in entries)
    try:
        found = parse_tokens(text)
    except ValueError:
        return
    for token in found:
        assert token.token and (token.team is None or token.role == "submit")
        assert bool(token.benchmarks) == (token.role == "organiser")
    assert len({token.token for token in found}) == len(found)
