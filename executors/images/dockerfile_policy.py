"""What a Dockerfile may do that AutoScorer does not trust: build from its own files and from images that are allowed.

The builder works for the engine, and not inside of a container: it fetches ``ADD http://…`` from the host's own
network, loopback included and whatever ``images.build_network`` says, and takes files of any image for
``COPY --from``. So such instructions are refused before anything is built. docs/decisions/0010 says why each is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...schemas.image_reference import ImageId, ImageReference, parse_image
from .dockerfile import DockerfileError, Instruction, json_list, parse_dockerfile, parse_instruction

__all__ = ["Base", "bases", "pinned", "refuse_trigger"]

_OPTIONS: dict[str, frozenset[str]] = {
    "FROM": frozenset({"platform"}),
    "COPY": frozenset({"from", "chown", "chmod", "link", "parents", "exclude"}),
    "ADD": frozenset({"chown", "chmod", "link", "exclude", "unpack", "keep-git-dir", "checksum"}),
    "HEALTHCHECK": frozenset({"interval", "timeout", "start-period", "start-interval", "retries"}),
}
_STAGE = re.compile(r"[a-z][a-z0-9_.-]*")
_INDEX = re.compile(r"0|[1-9][0-9]{0,3}")
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_ARGUMENT = re.compile(rf"({_NAME})(?:=(.*))?")
# Text of a name of an image, $NAME, ${NAME} and ${NAME:-text}: nothing that engines read in two ways.
_TEXT = r"[A-Za-z0-9._:/@+-]"
_PART = re.compile(rf"({_TEXT})|\$({_NAME})|\$\{{({_NAME})(?::-({_TEXT}*))?\}}")


@dataclass(frozen=True)
class Base:
    """An image that a stage begins with and that is not the operator's own choice.

    Attributes:
        image: As the arguments make it.
        instruction: Its ``FROM``.
    """

    image: ImageReference | ImageId
    instruction: Instruction


def bases(data: bytes, build_args: Mapping[str, str]) -> list[Base]:
    """Check a Dockerfile and list the images that it begins with.

    Args:
        data: The Dockerfile.
        build_args: The operator's. An image that comes from one of them is the operator's choice, and is not listed.

    Raises:
        DockerfileError: It does what it may not, or can't be read.
    """
    found: list[Base] = []
    arguments: dict[str, str | None] = {}
    stages: list[str | None] = []
    for instruction in parse_dockerfile(data):
        if instruction.keyword == "FROM":
            base, name = _from(instruction, arguments, build_args, stages)
            found += [base] if base is not None else []
            stages.append(name)
        elif not stages:
            if instruction.keyword != "ARG":
                raise DockerfileError(instruction.first_line, f"{instruction.keyword} stands before the first FROM")
            _declare(instruction, arguments, build_args)
        else:
            # The stage that is being built has no name yet: the builder would look for an image of that name.
            _refuse(instruction, stages[:-1])
    if not stages:
        raise DockerfileError(1, "the Dockerfile has no FROM")
    return found


def refuse_trigger(text: str) -> None:
    """Refuse an ``ONBUILD`` instruction of an image that a Dockerfile begins with.

    Raises:
        DockerfileError: The builder would do with it what a Dockerfile may not.
    """
    if "\n" in text:
        raise DockerfileError(0, "it has several lines", forbidden=True)
    _refuse(parse_instruction(text, 0, 0), [])


def pinned(data: bytes, ids: Mapping[Instruction, str]) -> bytes:
    """The Dockerfile with images given by their ids, so that what was checked is what it begins with.

    Args:
        data: A Dockerfile that ``bases`` took.
        ids: For each ``FROM``, the id.

    Returns:
        The Dockerfile; every other line is as it was, and has the number it had.
    """
    lines = data.decode("utf-8-sig").split("\n")
    for instruction, identity in ids.items():
        options = [f"--{name}={value}" for name, value in instruction.options]
        words = ["FROM", *options, identity, *instruction.rest.split()[1:]]
        count = instruction.last_line - instruction.first_line + 1
        lines[instruction.first_line - 1 : instruction.last_line] = [" ".join(words), *[""] * (count - 1)]
    return "\n".join(lines).encode()


def _from(
    instruction: Instruction,
    arguments: Mapping[str, str | None],
    build_args: Mapping[str, str],
    stages: list[str | None],
) -> tuple[Base | None, str | None]:
    """The image of a stage, None where it is an earlier stage's, nothing or the operator's; and the stage's name."""
    line = instruction.first_line
    _known_options(instruction)
    for _, value in instruction.options:
        if not value or not re.fullmatch(r"[a-z0-9/._-]+", value):
            raise DockerfileError(line, "--platform must be written out, such as linux/amd64")
    words = re.split(r"[\t ]+", instruction.rest)
    name = words[2].lower() if len(words) == 3 and words[1].lower() == "as" else None
    if not words[0] or (len(words) != 1 and (name is None or not _STAGE.fullmatch(name))):
        raise DockerfileError(line, "FROM is written as FROM image or FROM image AS stage")
    text, chosen_by = _expanded(words[0], arguments, line)
    if text == "scratch" or text.lower() in stages or (chosen_by is not None and chosen_by in build_args):
        return None, name
    try:
        return Base(parse_image(text), instruction), name
    except ValueError as error:
        raise DockerfileError(line, f"FROM {text[:100]!r}: {error}") from None


def _declare(instruction: Instruction, arguments: dict[str, str | None], build_args: Mapping[str, str]) -> None:
    """Note what an ARG before the first FROM is worth; None where that can't be told for certain."""
    _known_options(instruction)
    for word in re.split(r"[\t ]+", instruction.rest):
        match = _ARGUMENT.fullmatch(word)
        if match is None:
            # A quoted value with a space in it, say. No later one counts: which word is what can't be told.
            arguments.update(dict.fromkeys(re.findall(_NAME, instruction.rest)))
            return
        name, value = match[1], match[2]
        if name in build_args:
            arguments[name] = build_args[name]
        elif value is None:
            arguments[name] = ""
        else:
            quoted = re.fullmatch(r'"([^"]*)"', value)
            try:
                arguments[name], _ = _expanded(quoted[1] if quoted else value, arguments, 0)
            except DockerfileError:
                arguments[name] = None


def _expanded(word: str, arguments: Mapping[str, str | None], line: int) -> tuple[str, str | None]:
    """A word with its variables put in, and the name of the variable when it is nothing else than one."""
    text, position, parts = "", 0, 0
    only: str | None = None
    while position < len(word):
        match = _PART.match(word, position)
        if match is None:
            raise DockerfileError(
                line, f"{word[:100]!r} must be a plain name, or $NAME, ${{NAME}} or ${{NAME:-name}} of an ARG"
            )
        literal, bare, braced, default = match.groups()
        name = bare or braced
        if name is None:
            text += literal
        else:
            value = arguments.get(name, "")
            if value is None:
                raise DockerfileError(line, f"the value of ARG {name} must be a plain name")
            only = name if value else None
            text += value or default or ""
        parts += 1
        position = match.end()
    return text, only if parts == 1 else None


def _refuse(instruction: Instruction, stages: list[str | None]) -> None:
    line = instruction.first_line
    _known_options(instruction)
    if instruction.keyword == "COPY":
        for name, value in instruction.options:
            if name == "from" and not _is_stage(value or "", stages):
                raise DockerfileError(
                    line,
                    f"COPY --from={(value or '')[:100]} takes files of an image; only an earlier stage of this "
                    "Dockerfile may stand there. Write FROM image AS stage first",
                    forbidden=True,
                )
    elif instruction.keyword == "ADD":
        _refuse_remote(instruction)
    elif instruction.keyword == "ONBUILD":
        inner = parse_instruction(instruction.rest, line, instruction.last_line)
        if inner.keyword in ("FROM", "ONBUILD", "MAINTAINER"):
            raise DockerfileError(line, f"ONBUILD {inner.keyword} is not allowed by Docker itself")
        # It runs in another Dockerfile, whose stages nobody knows here.
        _refuse(inner, [])


def _known_options(instruction: Instruction) -> None:
    known = _OPTIONS.get(instruction.keyword, frozenset())
    for name, _ in instruction.options:
        if name not in known:
            hint = " (it can reach other images, secrets and the network)" if instruction.keyword == "RUN" else ""
            raise DockerfileError(
                instruction.first_line,
                f"{instruction.keyword} --{name} is not allowed{hint}; remove it",
                forbidden=True,
            )


def _is_stage(value: str, stages: list[str | None]) -> bool:
    if _INDEX.fullmatch(value):
        # A name may not begin with a digit, so a number is always the number of a stage.
        return int(value) < len(stages)
    return value.lower() in [name for name in stages if name]


def _refuse_remote(instruction: Instruction) -> None:
    """Only plain paths may stand in ADD: a variable or an escape could spell an address."""
    rest = instruction.rest
    words = re.split(r"[\t ]+", rest)
    if rest.startswith("["):
        listed = json_list(rest)
        if listed is None:
            raise DockerfileError(instruction.first_line, "the list of ADD is not JSON")
        words = listed
    for word in words[:-1]:
        # Whether an address or a repository: each has a colon, but for one short form of GitHub's.
        if re.search(r"[:$'\"\\`]", word) or word.lower().startswith("github.com/"):
            raise DockerfileError(
                instruction.first_line,
                f"ADD {word[:100]!r} may be an address, which the engine would fetch from the host's own network; only "
                "plain paths of the workspace may stand there. Put the file into the workspace, or use COPY",
                forbidden=True,
            )
