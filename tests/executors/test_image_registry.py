"""Images of registries without an engine: a real skopeo against a small registry on loopback."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.config_sections import Images
from autoscorer.core.errors import AutoScorerError, ErrorCode, Fault
from autoscorer.executors.base import Image, SilentObserver
from autoscorer.executors.images.image_config import machine
from autoscorer.executors.images.registry import RegistryImages
from autoscorer.executors.images.unpacked import ImageStore

from ..support.images import digest, docker_files, file, layer, oci_files, snapshot, write_layout
from ..support.prefect_server import eventually

LIMIT = 64 * 1024**2
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """Serves manifests and blobs; counts what was asked for."""

    def __init__(self) -> None:
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        # Answers that the next requests of a manifest get in place of it.
        self.failures: list[int] = []
        self.hang = threading.Event()
        self.hang.set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.hang.wait(30)
                kind, content = outer.answer(self.path)
                self.send_response(200 if content is not None else int(kind))
                code = "MANIFEST_UNKNOWN" if kind == "404" else "UNKNOWN"
                error = {"errors": [{"code": code, "message": code.replace("_", " ").lower()}]}
                data = json.dumps(error).encode() if content is None else content
                self.send_header("Content-Type", kind if content is not None else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.name = f"127.0.0.1:{self.server.server_port}"

    def answer(self, path: str) -> tuple[str, bytes | None]:
        if path == "/v2/":
            return "application/json", b"{}"
        self.asked.append(path)
        _, kind, reference = path.rsplit("/", 2)
        if kind == "blobs":
            return "application/octet-stream", self.blobs.get(reference)
        if self.failures:
            return str(self.failures.pop(0)), None
        return self.manifests.get(reference, ("404", None))

    def add(self, layers: list[bytes], tag: str, media_type: str = OCI_MANIFEST, **more: Any) -> str:
        """Offer an image under a tag; its digest."""
        stored = [gzip.compress(tar, mtime=0) for tar in layers]
        raw = docker_files(layers, {"Cmd": ["run"]}, **more)
        config = next(data for name, data in raw.items() if name.startswith("blobs/") and data[:1] == b"{")
        oci = media_type == OCI_MANIFEST
        kinds = (
            ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip")
            if oci
            else (
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            )
        )
        described = [
            {"mediaType": kind, "digest": digest(data), "size": len(data)}
            for kind, data in ((kinds[0], config), *((kinds[1], data) for data in stored))
        ]
        manifest = {"schemaVersion": 2, "mediaType": media_type, "config": described[0], "layers": described[1:]}
        self.blobs |= {digest(data): data for data in (config, *stored)}
        return self.offer(json.dumps(manifest).encode(), media_type, tag)

    def add_index(self, tag: str, manifests: dict[str, str]) -> str:
        """Offer an index of manifests by their machines."""
        listed = [
            {
                "mediaType": OCI_MANIFEST,
                "digest": found,
                "size": len(self.manifests[found][1]),
                "platform": {"os": "linux", "architecture": name},
            }
            for name, found in manifests.items()
        ]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
        return self.offer(json.dumps(index).encode(), OCI_INDEX, tag)

    def offer(self, data: bytes, media_type: str, tag: str) -> str:
        self.manifests[tag] = self.manifests[digest(data)] = (media_type, data)
        return digest(data)

    @property
    def fetched(self) -> int:
        """How often a blob was."""
        return sum("/blobs/" in path for path in self.asked)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry that skopeo speaks to without TLS."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    one = Registry()
    settings = tmp_path / "user" / ".config" / "containers" / "registries.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text(f'[[registry]]\nlocation = "{one.name}"\ninsecure = true\n')
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    thread = threading.Thread(target=one.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield one
    one.hang.set()
    one.server.shutdown()
    one.server.server_close()
    thread.join()


class Told(SilentObserver):
    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, name: str, detail: str = "") -> None:
        self.stages.append(name)


Resolve = Callable[..., tuple[Image, dict[str, tuple[Any, ...]], list[str]]]


@pytest.fixture
def resolve(home: Path, settings: Settings) -> Resolve:
    """Resolve a name: the image, its tree, and the stages that were told."""

    def resolved(wanted: str, **images: Any) -> tuple[Image, dict[str, tuple[Any, ...]], list[str]]:
        configured = settings.model_copy(update={"images": Images(**{"pull_retries": 0, **images})})
        told = Told()
        with RegistryImages(ImageStore(home, LIMIT), configured).image(wanted, told) as (image, unpacked):
            assert image.id == unpacked.id and unpacked.config.cmd == ("run",)
            return image, snapshot(unpacked.rootfs), told.stages

    return resolved


PULL = """
import sys
from pathlib import Path
from autoscorer.core.config import load_settings
from autoscorer.executors.base import SilentObserver
from autoscorer.executors.images.registry import RegistryImages
from autoscorer.executors.images.unpacked import ImageStore
with RegistryImages(ImageStore(Path(sys.argv[1]), 10**9), load_settings()).image(sys.argv[2], SilentObserver()):
    pass
"""


def skopeos(word: str) -> list[str]:
    """The processes of skopeo that have a word in their arguments."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = (folder / "cmdline").read_bytes().decode().split("\0")
            if "skopeo" in line[0] and any(word in argument for argument in line):
                found.append(folder.name)
    return found


def nothing_half(home: Path) -> bool:
    images = home / "images"
    return not images.exists() or (
        os_list(images / "work") == [] and {*os_list(images / "locks")} <= {*os_list(images)}
    )


def os_list(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def one(number: int) -> list[bytes]:
    return [layer([file("number", b"0")]), layer([file("number", str(number).encode())])]


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_an_image_is_fetched_once_by_its_digest(
    registry: Registry, resolve: Resolve, home: Path, media_type: str
) -> None:
    found = registry.add(one(1), "1", media_type)
    name = f"{registry.name}/team/model:1"
    image, tree, stages = resolve(name)
    assert image.reference == name and image.digest == found and image.source == "registry"
    assert tree == {"number": ("file", 0o644, b"1")} and stages[-1] == "load" and "pull" in stages
    registry.asked.clear()
    again, tree, stages = resolve(name)
    assert registry.asked == [] and stages == [] and again.source == "local"
    assert (again.id, again.digest) == (image.id, found) and tree["number"][2] == b"1"
    by_digest, _, stages = resolve(f"{registry.name}/team/model@{found}")
    assert registry.asked == [] and stages == [] and by_digest.id == image.id
    assert nothing_half(home)


@pytest.mark.slow
def test_the_pull_policies(registry: Registry, resolve: Resolve) -> None:
    name = f"{registry.name}/model:latest"
    registry.add(one(1), "latest")
    with pytest.raises(AutoScorerError, match="pull_policy is 'never'") as caught:
        resolve(name, pull_policy="never")
    assert caught.value.code is ErrorCode.IMAGE_NOT_FOUND and registry.asked == []
    first, _, _ = resolve(name)
    moved = registry.add(one(2), "latest")
    for policy in ("ifnotpresent", "never"):
        image, tree, _ = resolve(name, pull_policy=policy)
        assert image.id == first.id and tree["number"][2] == b"1"
    image, tree, _ = resolve(name, pull_policy="always")
    assert image.digest == moved and tree["number"][2] == b"2"
    # With a digest that is here, nothing but the manifest is asked for.
    before = registry.fetched
    image, _, stages = resolve(name, pull_policy="always")
    assert image.digest == moved and registry.fetched == before and "load" not in stages
    assert resolve(name)[0].digest == moved


def test_the_image_for_this_machine_is_taken_from_an_index(registry: Registry, resolve: Resolve) -> None:
    ours, foreign = registry.add(one(1), "a"), registry.add(one(2), "b", architecture="mips")
    index = registry.add_index("both", {"mips": foreign, machine(): ours})
    image, tree, _ = resolve(f"{registry.name}/model:both")
    assert image.digest == index and tree["number"][2] == b"1"
    registry.add_index("none", {"mips": foreign, "s390x": ours})
    with pytest.raises(AutoScorerError, match=f"expected one image for linux/{machine()}, found 0") as caught:
        resolve(f"{registry.name}/model:none")
    assert caught.value.code is ErrorCode.IMAGE_NOT_FOUND


def test_a_prefix_is_put_before_names_without_a_registry(registry: Registry, resolve: Resolve) -> None:
    registry.add(one(1), "3")
    image, _, _ = resolve("team/model:3", registry_prefix=f"{registry.name}/mirror")
    assert image.reference == f"{registry.name}/mirror/team/model:3"
    assert all("/v2/mirror/team/model/" in path for path in registry.asked)


def test_what_a_registry_does_not_have_is_not_tried_again(registry: Registry, resolve: Resolve, home: Path) -> None:
    with pytest.raises(AutoScorerError, match="manifest unknown") as caught:
        resolve(f"{registry.name}/model:none", pull_retries=3)
    assert caught.value.code is ErrorCode.IMAGE_NOT_FOUND and caught.value.spec.fault is Fault.SUBMISSION
    assert len(registry.asked) == 1 and nothing_half(home)
    with pytest.raises(AutoScorerError) as caught:
        resolve(f"{registry.name}/model@sha256:{'0' * 64}", pull_retries=3)
    assert caught.value.code is ErrorCode.IMAGE_NOT_FOUND


@pytest.mark.slow
def test_a_registry_that_stumbles_is_tried_again(registry: Registry, resolve: Resolve) -> None:
    registry.add(one(1), "1")
    registry.failures = [400]
    image, _, stages = resolve(f"{registry.name}/model:1", pull_retries=1)
    assert image.source == "registry" and stages.count("pull") == 3
    registry.failures = [400] * 9
    with pytest.raises(AutoScorerError, match=r"could not be pulled \(2 tries\)") as caught:
        resolve(f"{registry.name}/other:1", pull_retries=1, pull_policy="always")
    assert caught.value.code is ErrorCode.IMAGE_PULL_FAILED and caught.value.details["tries"] == 2


@pytest.mark.slow
def test_a_puller_that_is_killed_leaves_no_skopeo_and_no_half(registry: Registry, resolve: Resolve, home: Path) -> None:
    registry.add(one(1), "1")
    registry.hang.clear()
    name = f"{registry.name}/model:1"
    process = subprocess.Popen([sys.executable, "-c", PULL, home, name])
    try:
        eventually(lambda: skopeos(registry.name), within=60)
    finally:
        process.kill()
        process.wait()
    eventually(lambda: not skopeos(registry.name), within=10)
    registry.hang.set()
    assert resolve(name)[0].source == "registry" and nothing_half(home)


@pytest.mark.slow
def test_a_registry_that_hangs_is_given_up(registry: Registry, resolve: Resolve) -> None:
    registry.hang.clear()
    with pytest.raises(AutoScorerError, match=r"not done after 1 s \(images.pull_timeout\)") as caught:
        resolve(f"{registry.name}/model:1", pull_timeout=1)
    assert caught.value.code is ErrorCode.IMAGE_PULL_FAILED


def test_blobs_of_other_digests_and_too_large_images_become_nothing(
    registry: Registry, resolve: Resolve, home: Path
) -> None:
    registry.add(one(1), "1")
    with pytest.raises(AutoScorerError, match=r"more than the allowed 100 bytes \(images.max_archive\)") as caught:
        resolve(f"{registry.name}/model:1", max_archive=100)
    assert caught.value.code is ErrorCode.IMAGE_NOT_FOUND and registry.fetched == 0
    for key, data in registry.blobs.items():
        registry.blobs[key] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(AutoScorerError) as caught:
        resolve(f"{registry.name}/model:1")
    assert caught.value.code in (ErrorCode.IMAGE_PULL_FAILED, ErrorCode.IMAGE_NOT_FOUND)
    assert nothing_half(home) and not [name for name in os_list(home / "images") if len(name) == 64]


@pytest.mark.parametrize("manifest", [b"{", b"[]", b"{}", b'{"layers": [1]}', b'{"layers": [{"size": "x"}]}'])
def test_manifests_of_another_shape(registry: Registry, resolve: Resolve, manifest: bytes) -> None:
    registry.offer(manifest, OCI_MANIFEST, "1")
    with pytest.raises(AutoScorerError) as caught:
        resolve(f"{registry.name}/model:1")
    assert caught.value.code in (ErrorCode.IMAGE_NOT_FOUND, ErrorCode.IMAGE_PULL_FAILED)


def test_without_skopeo_is_said_what_to_install(resolve: Resolve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(AutoScorerError, match=r"apt-get install skopeo.*image\.tar") as caught:
        resolve("registry.example/team/model:1")
    assert caught.value.code is ErrorCode.IMAGE_PULL_FAILED and caught.value.spec.fault is Fault.SYSTEM


def test_an_id_is_only_an_engines(resolve: Resolve) -> None:
    with pytest.raises(AutoScorerError, match="only an engine knows") as caught:
        resolve("sha256:" + "a" * 64)
    assert caught.value.code is ErrorCode.IMAGE_NOT_FOUND


def test_what_skopeo_copies_is_read(registry: Registry, home: Path, tmp_path: Path) -> None:
    """An OCI layout of skopeo's own writing, from one of ours."""
    source = write_layout(tmp_path / "source", oci_files(one(7), {"Cmd": ["run"]}))
    index = json.loads((source / "index.json").read_text())
    blob = source / "blobs/sha256" / index["manifests"][0]["digest"].removeprefix("sha256:")
    assert blob.exists()
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "-q", f"oci:{source}", f"oci:{tmp_path / 'copied'}:x"], check=True
    )
    with ImageStore(home, LIMIT).layout(tmp_path / "copied", LIMIT) as image:
        assert snapshot(image.rootfs) == {"number": ("file", 0o644, b"7")}
