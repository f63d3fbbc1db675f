"""What a stranger's Dockerfile may do, and that we read it as the engine's builder does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.config_sections import Images, Security
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.meta import load_job
from autoscorer.core.workspace import Workspace
from autoscorer.executors.images.dockerfile import DockerfileError, Instruction, parse_dockerfile
from autoscorer.executors.images.dockerfile_policy import bases, pinned, refuse_trigger
from autoscorer.executors.images.policy import image_source
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ..support.examples import examples

ROOT = Path(__file__).parents[2]


def refused(text: str, **build_args: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        bases(text.encode(), build_args)
    return caught.value


def names(text: str, **build_args: str) -> list[str]:
    return [str(base.image) for base in bases(text.encode(), build_args)]


@pytest.mark.parametrize(
    "step",
    [
        # ADD of an address, however it is spelled
        "ADD http://127.0.0.1:8000/x /x",
        "add http://127.0.0.1:8000/x /x",
        "Add https://example.com/x /x",
        'ADD ["http://127.0.0.1/x", "/x"]',
        'ADD ["\\u0068ttp://127.0.0.1/x", "/x"]',
        "ADD local http://127.0.0.1/x /x/",
        "ADD --chown=1:1 http://127.0.0.1/x /x",
        "ADD \\\nhttp://127.0.0.1/x \\\n/x",
        "ADD \\\n# a comment in between\n\n  http://127.0.0.1/x /x",
        'ADD "http"://127.0.0.1/x /x',
        "ADD h'tt'p://127.0.0.1/x /x",
        "ADD h\\ttp://127.0.0.1/x /x",
        "ARG URL=http://127.0.0.1/x\nADD $URL /x",
        "ENV URL=http://127.0.0.1/x\nADD ${URL} /x",
        "ARG S=p\nADD htt${S}://127.0.0.1/x /x",
        "ADD git@example.com:team/repo.git /x",
        "ADD https://example.com/team/repo.git#main /x",
        "ADD ssh://git@example.com/team/repo /x",
        "ADD github.com/team/repo /x",
        # files of other images
        "COPY --from=other/image:1 /etc/passwd /x",
        "COPY --from=sha256:abc /x /x",
        "COPY --from=1 /x /x",
        "COPY --from=2 /x /x",
        "COPY --from=00 /x /x",
        "COPY --from=+0 /x /x",
        "COPY --from=last /x /x",
        "COPY --from=here /x /x",
        "COPY --from=$IMAGE /x /x",
        "copy --FROM=other /x /x",
        "COPY --from=other --chown=1:1 /x /x",
        "COPY --chown=1:1 --from=other /x /x",
        "COPY --from= /x /x",
        "COPY --from /x /x",
        'COPY --fr"om"=other /x /x',
        "COPY --fr\\om=other /x /x",
        "COPY \\\n--from=other /x /x",
        'COPY --from=other ["/x", "/x"]',
        # options of RUN
        "RUN --mount=type=bind,from=other,target=/x cat /x/secret",
        "RUN --mount=type=cache,target=/x true",
        "RUN --mount=type=secret,id=x true",
        "RUN --mount=type=ssh true",
        "RUN --network=host true",
        "RUN --security=insecure true",
        "run --mount=type=bind,from=other true",
        'RUN --mount=type=cache,target=/x ["true"]',
        # the same, later
        "ONBUILD ADD http://127.0.0.1/x /x",
        "onbuild copy --from=other /x /x",
        "ONBUILD COPY --from=earlier /x /x",
        "ONBUILD RUN --mount=type=cache,target=/x true",
        "ONBUILD ONBUILD ADD http://127.0.0.1/x /x",
        "ONBUILD FROM other",
        # what engines read in different ways
        "RUN <<EOF\nADD http://127.0.0.1/x /x\nEOF",
        "RUN cat <<-EOF\nADD http://127.0.0.1/x /x\nEOF",
        "RUN cat\u00a0<<EOF\nADD http://127.0.0.1/x /x\nEOF",
        "RUN [ -f x ] && cat <<EOF ]\nEOF",
        "COPY <<a <<b /x/\nb\na\nADD http://127.0.0.1/x /x\nb",
        "ADD <<EOF /x\nEOF",
        "RUN true\rADD http://127.0.0.1/x /x",
        "RUN true\u2028ADD http://127.0.0.1/x /x",
        "RUN true\x0bx",
        "RUN \0",
        "RUN " + "x" * 65_536,
        "\u017fHELL x",
        "BUILD x",
    ],
)
def test_what_is_refused(step: str) -> None:
    """``last`` is a later stage and ``here`` the one being built: the builder would look for images of those names."""
    error = refused(f"FROM a AS earlier\nRUN true\nFROM b AS here\n{step}\nFROM c AS last\n")
    assert 4 <= error.line <= 6 and error.why


@pytest.mark.parametrize(
    "head",
    [
        "# syntax=docker/dockerfile:1",
        "#syntax=evil/frontend",
        "# SynTax = evil/frontend",
        "#\tsyntax\t=\tevil/frontend",
        "  # syntax=evil/frontend",
        "#\u00a0syntax=evil/frontend",
        "# escape=\\\n# syntax=evil/frontend",
        "# check=skip=all\n# syntax=evil/frontend",
        "#!/usr/bin/env builder\n# syntax=evil/frontend",
        "\n# syntax=evil/frontend",
        "# just a comment\n# syntax=evil/frontend",
        "// syntax=evil/frontend",
        "//syntax=evil/frontend",
        '{"syntax": "evil/frontend"}',
        '{\n"syntax": "evil/frontend"}',
        "\ufeff# syntax=evil/frontend",
    ],
)
def test_a_frontend_of_its_own_is_refused(head: str) -> None:
    refused(f"{head}\nFROM a\n")


@pytest.mark.parametrize(
    "head",
    [
        "# a comment\n# escape=`\n",
        "\n# escape=`\n",
        "# escape=x\n",
        "# escape=``\n",
        "#\u00a0escape=`\n",
        "#!x\n# escape=`\n",
    ],
)
def test_an_escape_character_that_only_some_engines_see_is_refused(head: str) -> None:
    refused(f"{head}FROM a\nRUN true `\nADD http://127.0.0.1/x /x\n")


def test_the_escape_character_decides_where_an_instruction_ends() -> None:
    assert refused("# escape=`\nFROM a\nRUN true \\\nADD http://127.0.0.1/x /x\n").line == 4
    assert names("# escape=`\nFROM a\nRUN true `\nADD http://127.0.0.1/x /x\n") == ["a"]
    assert names("FROM a\nRUN true \\\nADD http://127.0.0.1/x /x\n") == ["a"]
    assert refused("FROM a\nRUN true \\\\\nADD http://127.0.0.1/x /x\n").line == 3
    assert names("FROM a\nRUN true \\\n   # a comment\nADD http://127.0.0.1/x /x\n") == ["a"]
    assert names("FROM a\r\nRUN true \\\r\n  && true\r\n") == ["a"]


def test_a_refusal_names_the_line_and_what_to_do() -> None:
    error = refused("FROM a\n\nRUN x \\\n  y\nADD http://example.com/x /x\n")
    assert error.line == 5 and error.forbidden
    assert "http://example.com/x" in error.why and "COPY" in error.why


@pytest.mark.parametrize(
    "path",
    [
        "examples/classification/Dockerfile",
        "examples/detection/Dockerfile",
        "examples/regression/Dockerfile",
        "cli/templates/init/common/Dockerfile",
        "Dockerfile",
    ],
)
def test_our_own_dockerfiles_are_accepted(path: str) -> None:
    data = (ROOT / path).read_bytes()
    assert {str(base.image) for base in bases(data, {})} == {"python:3.12-slim"}
    assert bases(data, {"BASE_IMAGE": "anything at all"}) == []


def test_an_ordinary_dockerfile_is_accepted() -> None:
    text = """
# Copied from many
ARG VERSION=3.12
ARG FLAVOUR="slim"
FROM --platform=linux/amd64 python:${VERSION}-${FLAVOUR} AS Build
LABEL maintainer="a <a@example.com>" url=https://example.com
ENV PIP_INDEX_URL=https://pypi.example/simple A="b c" PATH=/opt/bin:$PATH
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \\
    # what the model needs
    && apt-get install -y --no-install-recommends \\

       libgomp1 \\
    && rm -rf /var/lib/apt/lists/*
RUN ["sh", "-c", "cat <<EOF\\nx\\nEOF"]
RUN echo $((1 << 2)); grep -c x <<< "x"; test 1 -lt 2
WORKDIR /app
COPY requirements.txt 模型.bin ./
ADD data.tar.gz weights/*.npz /data/
ADD ["a file.txt", "/data/"]
RUN curl -fsSL https://example.com/x | sh
FROM scratch
COPY --from=build --chown=1000:1000 /app /app
COPY --from=0 /data /data
COPY "--from=other" /data
FROM build AS test
ONBUILD COPY . /app
ONBUILD RUN make
EXPOSE 8080/tcp
VOLUME ["/data"]
STOPSIGNAL SIGTERM
USER 1000:1000
HEALTHCHECK --interval=5m --timeout=3s CMD curl -f http://localhost/ || exit 1
ENTRYPOINT ["python"]
CMD ["predict.py", "--from=x"]
"""
    assert names(text) == ["python:3.12-slim"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("FROM a", ["a"]),
        ("FROM a AS b\nFROM b", ["a"]),
        ("FROM a AS b\nFROM B", ["a"]),
        ("FROM a\nFROM 0", ["a", "0"]),
        ("FROM b\nFROM a AS b", ["b", "a"]),
        ("FROM scratch", []),
        ("ARG X=a\nFROM $X", ["a"]),
        ("ARG X=a\nFROM registry.example/${X}:1", ["registry.example/a:1"]),
        ("ARG X\nFROM ${X:-a}", ["a"]),
        ("ARG X=a\nARG Y=$X:1\nFROM $Y", ["a:1"]),
        ("ARG X=a Y=b\nFROM $X\nFROM $Y", ["a", "b"]),
        ("FROM ${UNKNOWN:-a}", ["a"]),
        ("FROM a$UNKNOWN", ["a"]),
        ("ARG X=evil\nARG X=a\nFROM $X", ["a"]),
        ("ARG X=a\nFROM scratch\nARG X=b\nFROM $X", ["a"]),
        # The operator's own choice, and what only looks like it.
        ("ARG BASE=a\nFROM $BASE", []),
        ("ARG BASE=a\nFROM ${BASE}", []),
        ("FROM ${BASE:-evil}", ["evil"]),
        ("ARG EMPTY=a\nFROM ${EMPTY:-evil}", ["evil"]),
        ("ARG BASE=a\nFROM evil.example/$BASE", ["evil.example/ours"]),
    ],
)  # fmt: skip
def test_the_images_that_a_dockerfile_begins_with(text: str, found: list[str]) -> None:
    assert names(text, BASE="ours", EMPTY="") == found


@pytest.mark.parametrize(
    "text",
    [
        "", "# nothing", "RUN true", "ARG X", "FROM", "FROM a b", "FROM a AS", "FROM a AS 1", "FROM a AS b c",
        'FROM "a"', "FROM 'a'", "FROM a\\b", "FROM $1", "FROM ${X", "FROM ${X:+a}", "FROM ${X#a}", "FROM $", "FROM ..",
        "FROM A", "FROM $X", "FROM --platform=$P a", "FROM --other=x a", "ARG X='a'\nFROM $X", 'ARG X="a b"\nFROM $X',
        "ARG X=a\\b\nFROM $X", "ARG X=${Y:+z}\nFROM $X", "ENV X=a\nFROM a",
    ],
)  # fmt: skip
def test_a_beginning_that_can_not_be_told_for_certain_is_refused(text: str) -> None:
    refused(text)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(DockerfileError, match="UTF-8") as caught:
        bases(b"FROM a\nRUN \xff\n", {})
    assert caught.value.line == 2


def test_pinning_changes_nothing_but_the_images() -> None:
    text = (
        "ARG X=b\nFROM \\\n# why\n  --platform=linux/amd64 a:1 as One\nRUN x\n"
        "FROM $X\nCOPY --from=one /x /y\nFROM one\n"
    )
    found = bases(text.encode(), {})
    data = pinned(text.encode(), {base.instruction: f"sha256:{number}" for number, base in enumerate(found)})
    assert data.decode().split("\n") == [
        "ARG X=b", "FROM --platform=linux/amd64 sha256:0 as One", "", "", "RUN x", "FROM sha256:1",
        "COPY --from=one /x /y", "FROM one", "",
    ]  # fmt: skip


@pytest.mark.parametrize("trigger", ["ADD http://127.0.0.1/x /x", "COPY --from=x a b", "RUN true\nADD http://x /", "x"])
def test_a_trigger_of_a_base_image_is_judged_alike(trigger: str) -> None:
    with pytest.raises(DockerfileError):
        refuse_trigger(trigger)
    refuse_trigger("COPY . /app")


def test_a_submission_is_told_at_validation(make_workspace: Callable[..., Path], settings: Settings) -> None:
    space = Workspace(make_workspace(container={}))
    (space.root / "Dockerfile").write_text("FROM python\nADD http://127.0.0.1:8000/x /x\n")
    with pytest.raises(AutoScorerError) as caught:
        image_source(space, load_job(space), settings)
    assert caught.value.code is ErrorCode.IMAGE_NOT_ALLOWED and caught.value.exit_code == 1
    assert caught.value.details["line"] == 2 and "line 2" in caught.value.message
    trusting = settings.model_copy(update={"security": Security(dockerfiles="any")})
    assert image_source(space, load_job(space), trusting) == "build"


@pytest.mark.parametrize(
    "begin", ["FROM evil/model:1", "FROM team/x AS a\nFROM evil/model:1", "FROM sha256:" + "0" * 64]
)
def test_patterns_judge_what_a_dockerfile_begins_with(
    make_workspace: Callable[..., Path], settings: Settings, begin: str
) -> None:
    strict = settings.model_copy(update={"security": Security(allowed_images=("team/*",), allow_build=True)})
    space = Workspace(make_workspace(container={}))
    (space.root / "Dockerfile").write_text(f"{begin}\nRUN true\n")
    with pytest.raises(AutoScorerError) as caught:
        image_source(space, load_job(space), strict)
    assert caught.value.code is ErrorCode.IMAGE_NOT_ALLOWED
    assert caught.value.details["line"] == begin.count("\n") + 1
    (space.root / "Dockerfile").write_text("ARG BASE\nFROM $BASE\nFROM team/model\nFROM docker.io/team/x:1\n")
    ours = strict.model_copy(update={"images": Images(build_args={"BASE": "the/operators"})})
    assert image_source(space, load_job(space), ours) == "build"


def test_a_dockerfile_must_be_a_plain_file(make_workspace: Callable[..., Path], settings: Settings) -> None:
    space = Workspace(make_workspace(container={}))
    (space.root / "other").write_text("FROM a\n")
    (space.root / "Dockerfile").symlink_to("other")
    with pytest.raises(AutoScorerError) as caught:
        image_source(space, load_job(space), settings)
    assert caught.value.code is ErrorCode.IMAGE_BUILD_FAILED


# The builder's own parser, in a process of its own: it brings the runtime of another language along.
ORACLE = """
import dockerfile, json, sys
for line in sys.stdin:
    try:
        found = [[c.cmd, c.sub_cmd, list(c.flags), list(c.value), c.start_line, c.end_line, len(c.heredocs)]
                 for c in dockerfile.parse_string(json.loads(line))]
    except Exception as error:
        found = str(error)
    print(json.dumps(found), flush=True)
"""


@pytest.fixture(scope="module")
def builder() -> Iterator[Callable[[str], Any]]:
    """Asks the builder's own parser (moby's, in Go) how it reads a Dockerfile; text is why it does not."""
    pytest.importorskip("dockerfile", reason="the builder's parser is there for x86-64 alone")
    with subprocess.Popen(
        [sys.executable, "-c", ORACLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None

        def ask(text: str) -> Any:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(text) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()


pieces = st.sampled_from(
    [
        "FROM", "ADD", "COPY", "RUN", "ONBUILD", "ARG", "ENV", "CMD", "add", "Copy", "LABEL", "HEALTHCHECK", "VOLUME",
        " ", " ", "\t", "\n", "\n", "\r\n", "\\\n", "\\ \n", "`\n", "\\", "`", "\\\\", "#", "# ", "# escape=`\n",
        "# x\n", "\n\n", "<<", "<<-", "EOF", "<<EOF", "\nEOF\n", "a", "x", "b", "/x", ".", "http://127.0.0.1/x", "$X",
        "${X}", "--from=", "--from=a", "--", "--mount=type=cache", "--chown=1:1", "-", "=", '"', "'", "[", "]", ",",
        '["a", "b"]', "AS", " AS a", "X=http://x", "\u00a0", "\u3000", "\u0085", "é", "\ufeff", "\0", "\x0c", "1",
        "github.com/a",
    ]
)  # fmt: skip
dockerfiles = st.one_of(
    st.lists(pieces, max_size=25).map("".join),
    st.lists(pieces, max_size=25).map(lambda found: "FROM a AS a\n" + "".join(found)),
    st.lists(
        st.builds("{} {}".format, st.sampled_from(["ADD", "COPY", "RUN", "ONBUILD ADD", "copy", "FROM"]),
                  st.lists(pieces, max_size=8).map("".join)),
        max_size=5,
    ).map(lambda lines: "\n".join(["FROM a AS a", *lines])),
)  # fmt: skip


@given(dockerfiles)
@settings(max_examples=examples(700), deadline=None)
@example("FROM a\nRUN \\")
@example("FROM a\n \\\nADD http://x /x")
@example("FROM a\nRUN x \\\n\\\nADD http://x /x")
@example("FROM a\nADD\thttp://x /x")
def test_what_is_accepted_is_read_as_the_builder_reads_it(builder: Callable[[str], Any], text: str) -> None:
    """Whatever we accept, the builder splits into the same instructions on the same lines, with the same options."""
    try:
        ours = parse_dockerfile(text.encode())
    except DockerfileError:
        return
    theirs = builder(text)
    if isinstance(theirs, str):
        return  # the builder refuses it, and nothing is built
    assert len(theirs) == len(ours)
    for mine, (command, inner, flags, value, first, last, heredocs) in zip(ours, theirs, strict=True):
        assert (mine.keyword, mine.first_line, mine.last_line) == (command.upper(), first, last)
        assert heredocs == 0
        options = mine.options
        if mine.keyword == "ONBUILD" and inner:
            assert mine.rest.upper().startswith(inner.upper())
        else:
            assert [name if value is None else f"{name}={value}" for name, value in options] == [
                flag.removeprefix("--") for flag in flags
            ]
        if mine.keyword in ("RUN", "COPY", "FROM") and not mine.rest.startswith("["):
            assert mine.rest.split() == " ".join(value).split()


@given(dockerfiles)
@settings(max_examples=examples(700), deadline=None)
def test_nothing_that_is_accepted_fetches_anything(builder: Callable[[str], Any], text: str) -> None:
    try:
        bases(text.encode(), {})
    except DockerfileError:
        return
    theirs = builder(text)
    stages: list[str] = []
    for command, inner, flags, value, *_ in [] if isinstance(theirs, str) else theirs:
        command = (inner or command).upper()
        assert command != "RUN" or not flags
        assert command != "ADD" or not any("://" in word or "$" in word for word in value[:-1])
        for flag in flags:
            assert (
                command != "COPY"
                or not flag.startswith("--from=")
                or flag[7:].lower() in stages[:-1] + ["0"] * (len(stages) > 1)
            ), "files of an image"
        if command == "FROM":
            stages.append(value[2].lower() if len(value) == 3 else "")


def test_instructions_are_values() -> None:
    one = Instruction("RUN", (), "true", 1, 1)
    assert {one: 1}[Instruction("RUN", (), "true", 1, 1)] == 1
