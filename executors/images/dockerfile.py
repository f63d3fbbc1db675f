"""Dockerfiles, split into instructions as the engine's builder splits them.

Written after the builder's own parser (moby 20.10 to today; they differ in heredocs alone) and held against it in
tests/executors/test_dockerfile.py. It reads less than that parser does: where a spelling is read in two ways, or hides
what an instruction does (quotes inside of an option, heredocs, stray control characters), it refuses the file. So
whatever it accepts, the engine reads in the same way.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from ...core.text import escape as escape_text

__all__ = [
    "INSTRUCTIONS",
    "MAX_BYTES",
    "DockerfileError",
    "Instruction",
    "json_list",
    "parse_dockerfile",
    "parse_instruction",
]

INSTRUCTIONS = frozenset(
    [
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ]
)
MAX_BYTES = 256 * 1024
# From 64 KiB on the builder takes a line for too long.
_MAX_LINE = 60_000
_SPACE = "\t "
_STRAY = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_ESCAPE = re.compile(r"#[\t ]*escape[\t ]*=[\t ]*([\\`])[\t ]*", re.IGNORECASE)
_OPTION = re.compile(r"--([a-z][a-z-]*)(?:=([^'\"\\`]*))?")
_HEREDOC = re.compile(r"(?:^|\s)[0-9]*<<-?[^<\s]")


class DockerfileError(Exception):
    """A Dockerfile that is not accepted.

    Args:
        line: Number of the line, from 1.
        why: What stands there and what to write instead, as the end of a sentence.
        forbidden: Whether it is understood and not allowed; otherwise it is no Dockerfile.
    """

    def __init__(self, line: int, why: str, *, forbidden: bool = False) -> None:
        super().__init__(line, why, forbidden)
        self.line = line
        self.why = why
        self.forbidden = forbidden


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        keyword: In upper case.
        options: Each ``--name=value`` in order; the value is None without ``=``.
        rest: What follows the options.
        first_line: Number of its first line, from 1.
        last_line: Number of its last line.
    """

    keyword: str
    options: tuple[tuple[str, str | None], ...]
    rest: str
    first_line: int
    last_line: int


def parse_dockerfile(data: bytes) -> list[Instruction]:
    """Split a Dockerfile.

    Args:
        data: UTF-8, with or without a byte order mark; lines end in LF or CRLF.

    Raises:
        DockerfileError: It is no Dockerfile, is read in different ways by different engines, or names a frontend of
            its own.
    """
    lines = _lines(data)
    escape = _escape_character(lines)
    # As in the builder: one escape character at the end goes on, two of them are text.
    goes_on = re.compile(rf"(?<!{re.escape(escape)}){re.escape(escape)}[\t ]*\Z")
    found: list[Instruction] = []
    number = 0
    while number < len(lines):
        first = number + 1
        line = lines[number].lstrip()
        number += 1
        if not line or line.startswith("#"):
            continue
        text = goes_on.sub("", line)
        more = text != line
        while more and number < len(lines):
            line = lines[number]
            number += 1
            if line.lstrip().startswith("#") or not line.strip():
                continue
            part = goes_on.sub("", line)
            more = part != line
            text += part
        found.append(parse_instruction(text, first, number))
    if not found:
        raise DockerfileError(1, "the Dockerfile has no instruction")
    return found


def parse_instruction(text: str, first_line: int, last_line: int) -> Instruction:
    """Read one instruction, on one line already.

    Raises:
        DockerfileError: It is none.
    """
    keyword, rest = (*re.split(r"[\t ]+", text.strip(), maxsplit=1), "")[:2]
    if keyword.upper() not in INSTRUCTIONS or not keyword.isascii():
        raise DockerfileError(first_line, f"{_shown(keyword)} is not an instruction")
    options: list[tuple[str, str | None]] = []
    rest = rest.lstrip(_SPACE)
    while rest.startswith("--"):
        word, _, rest = (*re.split(r"([\t ]+)", rest, maxsplit=1), "", "")[:3]
        match = _OPTION.fullmatch(word)
        if match is None or not word.isascii():
            raise DockerfileError(
                first_line, f"the option {_shown(word)} must be --name=value without quotes and escapes"
            )
        options.append((match[1], match[2]))
    instruction = Instruction(keyword.upper(), tuple(options), rest.strip(), first_line, last_line)
    if instruction.keyword in ("RUN", "ADD", "COPY", "ONBUILD") and _HEREDOC.search(_unquoted_list(instruction.rest)):
        raise DockerfileError(
            first_line,
            "a heredoc (<<) is read differently by different engines and run by none of their classic builders; write "
            "a script into the workspace and COPY it",
        )
    return instruction


def _unquoted_list(rest: str) -> str:
    # ["sh", "-c", "…"]: a list in JSON is never looked through for heredocs.
    return rest if json_list(rest) is None else ""


def json_list(text: str) -> list[str] | None:
    """The list of texts that a JSON text holds; None when it holds anything else."""
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return listed if isinstance(listed, list) and all(isinstance(item, str) for item in listed) else None


def _lines(data: bytes) -> list[str]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DockerfileError(data[: error.start].count(b"\n") + 1, "it is not UTF-8") from None
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    for number, line in enumerate(lines, 1):
        if len(line.encode()) > _MAX_LINE:
            raise DockerfileError(number, f"a line has at most {_MAX_LINE:,} bytes")
        if stray := _STRAY.search(line):
            raise DockerfileError(number, f"it holds the control character {_shown(stray[0])}")
    return lines


def _escape_character(lines: list[str]) -> str:
    """The character that makes an instruction go on: a directive on the first line may say which.

    Comments before the first instruction may be directives. Which of them count depends on the engine's version.
    """
    escape = "\\"
    for number, line in enumerate(lines, 1):
        comment = line.strip()
        slashes = comment.startswith("//")
        if comment and not comment.startswith("#") and not slashes:
            break
        match = _DIRECTIVE.fullmatch("#" + comment.lstrip("/#") if comment else "")
        if match is None:
            continue
        name = match[1].lower()
        if name == "syntax":
            raise DockerfileError(
                number,
                "'# syntax=' names a program that would read the Dockerfile in the engine's place; remove the line",
                forbidden=True,
            )
        if name == "escape" and not slashes:
            plain = _ESCAPE.fullmatch(line)
            if number != 1 or plain is None:
                raise DockerfileError(number, "'# escape=' must stand on the first line and name \\ or `")
            escape = plain[1]
    return escape


def _shown(text: str) -> str:
    return repr(escape_text(text if len(text) <= 60 else text[:60] + "…"))
