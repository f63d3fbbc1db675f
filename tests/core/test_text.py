"""Whatever a stranger wrote can be shown: on a terminal, in a message, on a page."""

from __future__ import annotations

import os
import unicodedata
from xml.etree import ElementTree as ET

import pytest
from autoscorer.core.text import escape, replace, strip, visible
from hypothesis import given
from hypothesis import strategies as st

# Of the kind that st.text() draws seldom: escapes, C1, direction overrides, lone surrogates, noncharacters.
any_text = st.text() | st.text(
    st.sampled_from("a \n\t\x00\x1b[31m\x7f\x85\x9b\u2028\u202e\ud83d\udc80\uffff\U0001fffe")
)


def test_what_can_not_be_printed_is_escaped_and_all_else_stays() -> None:
    assert escape("a\x00\x1b[31m\n\u202e\udc80 b") == "a\\x00\\x1b[31m\\n\\u202e\\udc80 b"
    assert escape("naïve 日本 عربى é") == "naïve 日本 عربى é"


@given(any_text | st.binary(max_size=255).map(os.fsdecode))
def test_escaped_text_is_printable_and_tells_different_names_apart(text: str) -> None:
    shown = escape(text)
    assert shown.isprintable() and shown.encode().decode() == shown
    assert escape(shown) == shown and len(shown) >= len(text)
    if "\\" not in text:
        assert shown.encode("latin-1", "backslashreplace").decode("unicode_escape") == text


def test_what_can_not_be_printed_is_replaced_but_what_is_kept() -> None:
    assert replace("a\x00\x1b[31m\n\tb") == "a\ufffd\ufffd[31m\ufffd\ufffdb"
    assert replace("a\x1b\n\tb", keep="\n\t") == "a\ufffd\n\tb"


@given(any_text, st.sampled_from(["", "\n", "\t"]))
def test_replaced_text_is_as_long_and_printable(text: str, keep: str) -> None:
    shown = replace(text, keep=keep)
    assert len(shown) == len(text) and shown.encode().decode() == shown
    assert all(char.isprintable() or char in keep for char in shown)
    assert all(new == old for new, old in zip(shown, text, strict=True) if old.isprintable())


# --- strip -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[38;5;196mred", "red"),
        ("\x1b[38:2::255:0:0mred", "red"),
        ("\x1b[?25lhidden cursor\x1b[2J", "hidden cursor"),
        ("\x1b[>4;2m\x1b[=1cx", "x"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b", ""),
        ("a\x1b[", "a["),
        ("\x9b31mred", "31mred"),
        ("50%\r100%", "50%100%"),
        ("a\r\nb", "a\nb"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("\0\a\b\v\f\x7f\x85", ""),
        ("ümlaut 漢字 🎉", "ümlaut 漢字 🎉"),
    ],
)
def test_escapes_are_taken_out_and_text_stays(dirty: str, clean: str) -> None:
    assert strip(dirty) == clean


@given(st.text() | st.text(st.sampled_from("\x1b[]\\;?0m\x07\x9b\r\n\ta\x7f\0 ")))
def test_no_text_keeps_a_control_character(text: str) -> None:
    clean = strip(text)
    assert all(unicodedata.category(c) != "Cc" or c in "\n\t" for c in clean)
    assert strip(clean) == clean


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert strip(text) == text


# --- visible ---------------------------------------------------------------------------------------------


def test_control_characters_become_visible() -> None:
    assert visible("a\x00\x1b\nb\x7f") == "a␀␛␊b␡"
    assert visible("a\nb", keep="\n") == "a\nb"
    assert visible("\u202e\ud83d\x85\uffff") == "\ufffd" * 4
    assert visible("naïve 日本 عربى é") == "naïve 日本 عربى é"


@given(any_text)
def test_visible_text_can_be_encoded_and_parsed(text: str) -> None:
    safe = visible(text)
    assert len(safe) == len(text)
    element = ET.Element("a")
    element.text = safe
    assert ET.fromstring(ET.tostring(element, "utf-8")).text == (safe or None)
