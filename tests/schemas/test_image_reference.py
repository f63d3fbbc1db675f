"""Names of images: what the grammar takes, what it refuses, and that one image has one full name."""

from __future__ import annotations

import re

import pytest
from autoscorer.schemas.image_reference import ImageId, ImageReference, parse_image
from hypothesis import example, given
from hypothesis import strategies as st

SHA = "sha256:" + "ab" * 32

components = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}", fullmatch=True)
domains = st.one_of(
    st.just("localhost"),
    st.from_regex(r"[a-zA-Z0-9]{1,5}(-[a-z0-9]{1,3})?\.[a-z]{2,5}(:[0-9]{1,5})?", fullmatch=True),
    st.from_regex(r"[a-z]{1,5}:[0-9]{1,5}", fullmatch=True),
    st.from_regex(r"\[[a-f0-9]{0,4}:[a-f0-9:]{1,8}\](:[0-9]{1,5})?", fullmatch=True),
)
first_components = components.filter(lambda text: "." not in text and text != "localhost")
references = st.builds(
    ImageReference,
    domain=st.none() | domains,
    # A first part with a dot would be a registry.
    path=st.builds(lambda first, more: "/".join([first, *more]), first_components, st.lists(components, max_size=3)),
    tag=st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    digest=st.none() | st.just(SHA),
).filter(lambda reference: not str(reference).startswith("sha256:"))


@given(references)
def test_what_was_read_is_written_as_it_stood(reference: ImageReference) -> None:
    parsed = parse_image(str(reference))
    assert str(parsed) == str(reference) and parsed == reference


@given(references)
def test_an_image_has_one_full_name_however_it_is_spelled(reference: ImageReference) -> None:
    parsed = parse_image(str(reference))
    assert isinstance(parsed, ImageReference)
    full = parsed.normalized()
    assert full.normalized() == full
    assert parse_image(str(full)) == full
    familiar = parse_image(str(parsed.familiar()))
    assert isinstance(familiar, ImageReference) and familiar.normalized() == full
    assert not full.could_be_an_id


@given(st.one_of(st.text(), st.text(alphabet="ab.:/@-_%A\n\0[]019", max_size=30)))
@example("registry.example/models/../../bars/bb:1")
@example("busybox\n")
@example("a" * 100_000)
@example("A" * 100_000 + "/!")
def test_what_is_taken_can_do_no_harm_in_an_address(text: str) -> None:
    try:
        parsed = parse_image(text)
    except ValueError as error:
        assert "expected" in str(error)
        return
    for spelled in (str(parsed), *([str(parsed.normalized())] if isinstance(parsed, ImageReference) else [])):
        assert re.fullmatch(r"[A-Za-z0-9._:/@\[\]-]+", spelled)
        assert ".." not in spelled and "//" not in spelled and not spelled.startswith(("/", "."))


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.12-slim", "docker.io/library/python:3.12-slim"),
        ("team/model", "docker.io/team/model:latest"),
        ("docker.io/python", "docker.io/library/python:latest"),
        ("index.docker.io/team/model:1", "docker.io/team/model:1"),
        ("library/python", "docker.io/library/python:latest"),
        ("localhost/model", "localhost/model:latest"),
        ("localhost:5000/model", "localhost:5000/model:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000"),
        ("registry.example/a/b/c:v1.2_3", "registry.example/a/b/c:v1.2_3"),
        ("REGISTRY/model", "REGISTRY/model:latest"),
        ("Registry.example:5000/model", "Registry.example:5000/model:latest"),
        ("[2001:db8::1]:5000/model", "[2001:db8::1]:5000/model:latest"),
        ("xn--7o8h.example/model", "xn--7o8h.example/model:latest"),
        (f"team/model@{SHA}", f"docker.io/team/model@{SHA}"),
        (f"team/model:1@{SHA}", f"docker.io/team/model@{SHA}"),
        ("a--b/c__d/e.f_g", "docker.io/a--b/c__d/e.f_g:latest"),
        ("cafe", "docker.io/library/cafe:latest"),
        ("a" * 63, f"docker.io/library/{'a' * 63}:latest"),
        ("model:" + "t" * 128, "docker.io/library/model:" + "t" * 128),
    ],
)
def test_names_and_what_they_stand_for(text: str, full: str) -> None:
    parsed = parse_image(text)
    assert isinstance(parsed, ImageReference)
    assert str(parsed.normalized()) == full


@pytest.mark.parametrize("text", ["a" * 64, SHA, "sha256:a", "sha256:" + "0" * 63])
def test_ids(text: str) -> None:
    assert parse_image(text) == ImageId(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "/", ":", "@", "/a", "a/", "a//b", "..", "../a", "a/..", "a/../b", "../../etc", "./a", "a/./b", "-a", "a-",
        "_a", ".a", "a.", "a..b", "a___b", "a._b", "A", "team/Model", "a:", "a:-x", "a:.x", "a:b:c", "a:" + "t" * 129,
        "a:tag/b", "a b", " a", "a ", "a\n", "a\n/b", "a\t", "a\0", "a?x=1", "a#b", "a%2fb", "a\\b", "é", "a:é",
        "http://registry.example/a", "registry.example:port/a", "registry..example/a", "-registry.example/a",
        "[::1/a", "a@", "a@sha256:", "a@sha256:xyz", f"a@{SHA.upper()}", f"a@{SHA}0", f"@{SHA}", f"a@md5:{'0' * 32}",
        f"a@{SHA}@{SHA}", "a/" * 127 + "bcd", "sha256:", "sha256:" + "0" * 65 + ":x",
    ],
)  # fmt: skip
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match="expected an image"):
        parse_image(text)


@pytest.mark.parametrize(("text", "could"), [("cafe", True), ("c", True), ("cafe:1", False), ("cafe/a", False)])
def test_a_name_that_could_be_the_beginning_of_an_id(text: str, could: bool) -> None:
    parsed = parse_image(text)
    assert isinstance(parsed, ImageReference) and parsed.could_be_an_id is could
