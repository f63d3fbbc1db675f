"""Where images come from: the engine, an archive, a Dockerfile; what is refused, and what leaves no trace."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import shutil
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.config_sections import Images, Security
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.meta import load_job
from autoscorer.core.workspace import Workspace
from autoscorer.executors.base import Image, SilentObserver
from autoscorer.executors.docker.images import DockerImages
from autoscorer.executors.images.policy import allowed, image_source
from autoscorer.schemas.image_reference import ImageReference, parse_image
from autoscorer.tasks.validate import validate_workspace

pytestmark = pytest.mark.docker


class Stages(SilentObserver):
    """Remembers what the executor did."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def stage(self, name: str, detail: str = "") -> None:
        self.seen.append(name)


@pytest.fixture
def resolve(docker_client: Any, settings: Settings) -> Callable[..., tuple[Image, list[str]]]:
    def run(root: Path, **sections: Any) -> tuple[Image, list[str]]:
        space, stages = Workspace(root), Stages()
        images = DockerImages(docker_client, settings.model_copy(update=sections))
        return images.resolve(space, load_job(space), stages), stages.seen

    return run


@pytest.fixture
def throwaway(docker_client: Any) -> Iterator[list[str]]:
    """Images to remove afterwards."""
    tags: list[str] = []
    yield tags
    for tag in tags:
        docker_client.remove_image(tag, force=True)


def _save(client: Any, reference: str, target: Path) -> None:
    with target.open("wb") as file:
        for block in client.get_image(reference):
            file.write(block)


def test_a_local_image_is_pinned_by_id(resolve: Any, make_workspace: Any, busybox: str, docker_client: Any) -> None:
    image, stages = resolve(make_workspace(container={"image": busybox}))
    assert image.id == docker_client.inspect_image(busybox)["Id"]
    assert image.digest.startswith("sha256:") and stages == []


def test_never_pulling_says_what_to_do(resolve: Any, make_workspace: Any) -> None:
    root = make_workspace(container={"image": "no-such-image:1"})
    with pytest.raises(AutoScorerError) as caught:
        resolve(root, images=Images(pull_policy="never"))
    assert caught.value.code is ErrorCode.IMAGE_NOT_FOUND
    assert "no-such-image:1" in caught.value.message


def test_an_invalid_reference_is_the_metas_fault(resolve: Any, make_workspace: Any) -> None:
    with pytest.raises(AutoScorerError) as caught:
        resolve(make_workspace(container={"image": "Not A Reference!"}), images=Images(pull_policy="never"))
    assert caught.value.code is ErrorCode.INVALID_META
    assert caught.value.details["key"] == "container.image"


@pytest.mark.parametrize(
    "dots",
    [
        "registry.example/models/../../{}",
        "registry.example/models/../../../images/{}",
        "registry.example/models/x/../../../{}",
        "registry.example/models/..%2f..%2f{}",
        "registry.example/models/./../../{}",
    ],
)
def test_dots_do_not_lead_from_an_allowed_name_to_another_image(
    resolve: Any, make_workspace: Any, busybox: str, dots: str
) -> None:
    """The engine's client puts the name into the address of the engine's API, where ``..`` would go up."""
    root = make_workspace(container={"image": dots.format(busybox)})
    with pytest.raises(AutoScorerError) as caught:
        resolve(root, security=Security(allowed_images=("registry.example/models/*",)))
    assert caught.value.code is ErrorCode.INVALID_META and caught.value.exit_code == 1
    assert caught.value.details["key"] == "container.image"


@pytest.mark.parametrize("image", ["../../etc", "../../etc:1", "busybox\n", "a\n/b", "a?x=1", "a#b", "a b"])
def test_a_malformed_name_is_the_submissions_fault_before_any_engine_is_asked(
    make_workspace: Any, settings: Settings, image: str
) -> None:
    with pytest.raises(AutoScorerError) as caught:
        validate_workspace(make_workspace(container={"image": image}), settings=settings)
    assert caught.value.code is ErrorCode.INVALID_META and caught.value.exit_code == 1
    assert "container.image" in caught.value.message and "\n" not in caught.value.message


@pytest.mark.parametrize("digits", [8, 12, 63])
def test_the_beginning_of_an_id_names_no_image(
    resolve: Any, make_workspace: Any, busybox: str, docker_client: Any, digits: int
) -> None:
    """Whoever could name images by how their ids begin would find every image of the engine by trying."""
    identity = docker_client.inspect_image(busybox)["Id"].removeprefix("sha256:")[:digits]
    assert docker_client.inspect_image(identity), "the engine itself would find it"
    with pytest.raises(AutoScorerError) as caught:
        resolve(make_workspace(container={"image": identity}))
    assert caught.value.code is ErrorCode.IMAGE_NOT_ALLOWED


@pytest.mark.parametrize("form", ["{}", "sha256:{}", "sha256:{:.5}"])
def test_an_id_is_refused_at_validation(
    make_workspace: Any, settings: Settings, busybox: str, docker_client: Any, form: str
) -> None:
    identity = docker_client.inspect_image(busybox)["Id"].removeprefix("sha256:")
    space = Workspace(make_workspace(container={"image": form.format(identity)}))
    with pytest.raises(AutoScorerError) as caught:
        image_source(space, load_job(space), settings)
    assert caught.value.code is ErrorCode.IMAGE_NOT_ALLOWED and "allow_image_ids" in caught.value.message


@pytest.mark.parametrize("form", ["{}", "sha256:{}", "sha256:{:.12}", "{:.12}"])
def test_an_operator_may_allow_ids(
    resolve: Any, make_workspace: Any, busybox: str, docker_client: Any, form: str
) -> None:
    identity = docker_client.inspect_image(busybox)["Id"]
    root = make_workspace(container={"image": form.format(identity.removeprefix("sha256:"))})
    image, _ = resolve(root, security=Security(allow_image_ids=True))
    assert image.id == identity


def test_an_id_that_no_image_has_is_not_found(resolve: Any, make_workspace: Any) -> None:
    root = make_workspace(container={"image": "sha256:" + "0" * 63})
    with pytest.raises(AutoScorerError) as caught:
        resolve(root, security=Security(allow_image_ids=True))
    assert caught.value.code is ErrorCode.IMAGE_NOT_FOUND


@pytest.mark.parametrize("name", ["cafe", "cafe:latest", "docker.io/library/cafe"])
def test_a_name_of_hexadecimal_letters_is_a_name(
    resolve: Any, make_workspace: Any, busybox: str, docker_client: Any, throwaway: list[str], name: str
) -> None:
    docker_client.tag(busybox, "cafe")
    throwaway.append("cafe:latest")
    image, _ = resolve(make_workspace(container={"image": name}), images=Images(pull_policy="never"))
    assert image.id == docker_client.inspect_image(busybox)["Id"]


@pytest.mark.parametrize("form", ["{}", "docker.io/library/{}:latest", "index.docker.io/{}", "library/{}"])
def test_every_spelling_of_a_name_finds_the_image(
    resolve: Any, make_workspace: Any, busybox: str, docker_client: Any, form: str
) -> None:
    image, _ = resolve(make_workspace(container={"image": form.format(busybox)}), images=Images(pull_policy="never"))
    assert image.id == docker_client.inspect_image(busybox)["Id"]


class _Registry(http.server.BaseHTTPRequestHandler):
    """A registry on loopback that fails as told: docker treats 127.0.0.0/8 as plain HTTP."""

    status = 500
    calls = 0

    def do_GET(self) -> None:
        if "/manifests/" in self.path:
            type(self).calls += 1
        status = 200 if self.path == "/v2/" else self.status
        body = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}' if status == 404 else b"{}"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[Callable[[int], str]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def failing_with(status: int) -> str:
        _Registry.status, _Registry.calls = status, 0
        return f"127.0.0.1:{server.server_address[1]}/team/model:1"

    yield failing_with
    server.shutdown()
    server.server_close()


def test_a_registry_that_stumbles_is_retried_and_then_ours(resolve: Any, make_workspace: Any, registry: Any) -> None:
    root = make_workspace(container={"image": registry(500)})
    with pytest.raises(AutoScorerError) as caught:
        resolve(root, images=Images(pull_retries=1))
    assert caught.value.code is ErrorCode.IMAGE_PULL_FAILED
    assert caught.value.exit_code == 3, "a registry's failure is not the submission's"
    assert caught.value.details["tries"] == 2


def test_an_image_that_does_not_exist_is_not_retried(resolve: Any, make_workspace: Any, registry: Any) -> None:
    root = make_workspace(container={"image": registry(404)})
    with pytest.raises(AutoScorerError) as caught:
        resolve(root, images=Images(pull_retries=3))
    assert caught.value.code is ErrorCode.IMAGE_NOT_FOUND
    assert caught.value.exit_code == 1


def test_the_prefix_names_the_registry(resolve: Any, make_workspace: Any, registry: Any) -> None:
    mirror = registry(404).partition("/")[0]
    with pytest.raises(AutoScorerError) as caught:
        resolve(make_workspace(container={"image": "team/model:1"}), images=Images(registry_prefix=mirror))
    assert f"{mirror}/team/model:1" in caught.value.message and _Registry.calls > 0


@pytest.mark.parametrize("packed", [False, True], ids=["tar", "tar.gz"])
def test_an_archive_is_loaded_once_and_cannot_replace_an_image(
    resolve: Any, make_workspace: Any, busybox: str, docker_client: Any, throwaway: list[str], packed: bool
) -> None:
    """The archive carries the tag of an image that is here; loading it must not move that tag."""
    root = make_workspace(container={"cmd": ["sh"]})
    victim = "autoscorer-test-victim:1"
    evil = _built(docker_client, root.parent, f"FROM {busybox}\nLABEL evil={packed}\n")
    docker_client.tag(evil, "autoscorer-test-victim", "1")
    _save(docker_client, victim, root / "image.tar")
    docker_client.tag(busybox, "autoscorer-test-victim", "1")
    throwaway += [victim, evil]
    docker_client.remove_image(evil, force=True)
    throwaway.remove(evil)
    before = docker_client.inspect_image(victim)["Id"]
    if packed:
        (root / "image.tar.gz").write_bytes(gzip.compress((root / "image.tar").read_bytes()))
        (root / "image.tar").unlink()
    image, stages = resolve(root)
    throwaway.append(image.reference)
    assert docker_client.inspect_image(victim)["Id"] == before, "a stranger's archive replaced an image"
    assert image.id != before and stages == ["load"]
    again, stages = resolve(root)
    assert (again.id, stages) == (image.id, [])


def test_an_archive_that_is_none(resolve: Any, make_workspace: Any) -> None:
    root = make_workspace(container={"cmd": ["sh"]})
    (root / "image.tar").write_bytes(b"no archive at all")
    with pytest.raises(AutoScorerError) as caught:
        resolve(root)
    assert caught.value.code is ErrorCode.IMAGE_NOT_FOUND and "image.tar" in caught.value.message


def test_an_archive_larger_than_allowed(
    resolve: Any, make_workspace: Any, busybox: str, docker_client: Any, throwaway: list[str]
) -> None:
    root = make_workspace(container={"cmd": ["sh"]})
    # Of a content that no engine has loaded yet, or there would be nothing to load.
    unique = _built(docker_client, root.parent, f"FROM {busybox}\nLABEL unique={uuid.uuid4().hex}\n")
    throwaway.append(unique)
    _save(docker_client, unique, root / "image.tar")
    with pytest.raises(AutoScorerError) as caught:
        resolve(root, images=Images(max_archive=100_000))
    assert "allowed 100,000 bytes" in caught.value.message


def test_a_dockerfile_is_built_once_per_content(
    resolve: Any, make_workspace: Any, busybox: str, throwaway: list[str]
) -> None:
    root = make_workspace(container={})
    (root / "Dockerfile").write_text(f"FROM {busybox}\nCOPY model.txt /\n")
    (root / "model.txt").write_text("one")
    first, stages = resolve(root)
    assert "build" in stages
    again, stages = resolve(root)
    assert stages == [] and again.id == first.id
    (root / "model.txt").write_text("two")
    other, stages = resolve(root)
    throwaway += [first.reference, other.reference]
    assert "build" in stages and other.id != first.id
    argued, _ = resolve(root, images=Images(build_args={"X": "1"}))
    throwaway.append(argued.reference)
    assert argued.reference != other.reference


def test_the_ground_truth_is_not_in_the_build_context(
    resolve: Any, make_workspace: Any, busybox: str, docker_client: Any, throwaway: list[str]
) -> None:
    root = make_workspace(container={})
    (root / "output").mkdir()
    (root / "output" / "old.txt").write_text("old")
    (root / "Dockerfile").write_text(f"FROM {busybox}\nCOPY . /all\nRUN find /all -type f > /listing\n")
    image, _ = resolve(root)
    throwaway.append(image.reference)
    container = docker_client.create_container(image.id, ["cat", "/listing"], network_disabled=True)["Id"]
    docker_client.start(container)
    docker_client.wait(container)
    listing = docker_client.logs(container).decode().split()
    docker_client.remove_container(container, force=True, v=True)
    assert listing == ["/all/Dockerfile"]


def test_a_dockerfile_that_does_not_build(resolve: Any, make_workspace: Any, busybox: str) -> None:
    root = make_workspace(container={})
    (root / "Dockerfile").write_text(f"FROM {busybox}\nRUN echo before-the-end && exit 7\n")
    with pytest.raises(AutoScorerError) as caught:
        resolve(root)
    assert caught.value.code is ErrorCode.IMAGE_BUILD_FAILED
    assert "before-the-end" in caught.value.details["log"]


def test_a_base_image_that_no_registry_delivers_is_ours(resolve: Any, make_workspace: Any) -> None:
    """The engine says of a registry that is away what it says; the submission must not be blamed for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    root = make_workspace(container={})
    (root / "Dockerfile").write_text(f"FROM {nobody}/base:1\nRUN true\n")
    with pytest.raises(AutoScorerError) as caught:
        resolve(root)
    assert caught.value.code is ErrorCode.IMAGE_PULL_FAILED and caught.value.exit_code == 3
    assert "images.build_args" in caught.value.message


def test_a_run_step_cannot_pass_for_the_registry(resolve: Any, make_workspace: Any, busybox: str) -> None:
    root = make_workspace(container={})
    (root / "Dockerfile").write_text(f"FROM {busybox}\nRUN echo 'Get \"https://x\": dial tcp' >&2; exit 1\n")
    with pytest.raises(AutoScorerError) as caught:
        resolve(root)
    assert caught.value.code is ErrorCode.IMAGE_BUILD_FAILED


def test_a_build_that_never_ends(resolve: Any, make_workspace: Any, busybox: str, docker_client: Any) -> None:
    root = make_workspace(container={})
    (root / "Dockerfile").write_text(f"FROM {busybox}\nRUN while true; do echo busy; sleep 0.2; done\n")
    with pytest.raises(AutoScorerError) as caught:
        resolve(root, images=Images(build_timeout=3))
    assert caught.value.code is ErrorCode.IMAGE_BUILD_FAILED and "not done after 3 s" in caught.value.message


def test_a_build_without_network_when_told(resolve: Any, make_workspace: Any, busybox: str) -> None:
    root = make_workspace(container={})
    (root / "Dockerfile").write_text(f"FROM {busybox}\nRUN ls /sys/class/net && exit 1\n")
    with pytest.raises(AutoScorerError) as caught:
        resolve(root, images=Images(build_network="none"))
    assert [line for line in caught.value.details["log"] if line in ("lo", "eth0")] == ["lo"]


@pytest.mark.parametrize(
    ("reference", "patterns", "answer"),
    [
        ("team/model:1", ("team/*",), True),
        ("team/model", ("team/model:latest",), True),
        ("team/model", ("team/model",), True),
        ("other/model:1", ("team/*",), False),
        ("evil.example/team/model", ("team/*",), False),
        ("TEAM/model", ("team/*",), False),
        ("anything", (), False),
        ("docker.io/team/model:1", ("team/*",), True),
        ("index.docker.io/team/model:1", ("docker.io/team/*",), True),
        ("python:3.12", ("docker.io/library/python:3.12",), True),
        ("python:3.12", ("library/*",), True),
        ("docker.io/library/python", ("python",), True),
        ("python:latest", ("python",), True),
        ("python:3.12", ("python",), False),
        ("registry.example/models/a/b:1", ("registry.example/models/*",), True),
        ("registry.example.evil/models/a:1", ("registry.example/models/*",), False),
        ("registry.example:5000/models/a:1", ("registry.example/models/*",), False),
        # The digest decides what runs, so a tag beside it opens no pattern.
        ("team/model:1@sha256:" + "0" * 64, ("team/model:1*",), False),
        ("team/model:1@sha256:" + "0" * 64, ("team/model@*",), True),
        ("team/model", ("Not A Reference",), False),
    ],
)
def test_allowed(reference: str, patterns: tuple[str, ...], answer: bool) -> None:
    parsed = parse_image(reference)
    assert isinstance(parsed, ImageReference)
    assert allowed(parsed, patterns) is answer


@pytest.mark.parametrize(
    "security", [{}, {"allow_build": False, "allow_image_archive": False}], ids=["implied", "said"]
)
def test_what_the_operator_forbids(make_workspace: Any, settings: Settings, security: dict[str, bool]) -> None:
    """Allowing some images only forbids archives and builds as well, or they would be the way around."""
    strict = settings.model_copy(update={"security": Security(allowed_images=("team/*",), **security)})
    named = Workspace(make_workspace("a", container={"image": "evil:1"}))
    archive = Workspace(make_workspace("b", container={}))
    (archive.root / "image.tar").write_bytes(b"x")
    build = Workspace(make_workspace("c", container={}))
    (build.root / "Dockerfile").write_text("FROM scratch\n")
    for space in (named, archive, build):
        with pytest.raises(AutoScorerError) as caught:
            image_source(space, load_job(space), strict)
        assert caught.value.code is ErrorCode.IMAGE_NOT_ALLOWED
    said = settings.model_copy(
        update={"security": Security(allowed_images=("team/*",), allow_build=True, allow_image_archive=True)}
    )
    assert image_source(archive, load_job(archive), said) == "archive"
    assert image_source(build, load_job(build), said) == "build"
    nothing = Workspace(make_workspace("d", container={}))
    with pytest.raises(AutoScorerError) as caught:
        image_source(nothing, load_job(nothing), settings)
    assert caught.value.code is ErrorCode.INVALID_META


def _built(client: Any, folder: Path, dockerfile: str) -> str:
    context = folder / "context"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir()
    (context / "Dockerfile").write_text(dockerfile)
    tag = "autoscorer-test-built:" + hashlib.sha256(dockerfile.encode()).hexdigest()[:12]
    for event in client.build(path=str(context), tag=tag, rm=True, decode=True):
        assert "error" not in event, event
    return tag


def test_an_archive_is_no_way_around_the_allowed_images(
    resolve: Any, make_workspace: Any, busybox: str, docker_client: Any
) -> None:
    """An allowed name that is nowhere, and an archive that would pass for it."""
    root = make_workspace(container={"image": "team/model:1"})
    _save(docker_client, busybox, root / "image.tar")
    with pytest.raises(AutoScorerError) as caught:
        resolve(root, security=Security(allowed_images=("team/*",)), images=Images(pull_policy="never"))
    assert caught.value.code is ErrorCode.IMAGE_NOT_FOUND
