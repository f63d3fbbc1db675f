"""Images of registries without an engine: ``skopeo`` fetches them, the store unpacks them.

A name is resolved to a digest first, and what is fetched is named by it: a tag that moves meanwhile changes nothing.
Skopeo takes the caller's own credentials, proxies and settings of registries, and checks digests and the operator's
policy of signatures, where there is one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.processes import describe_exit, die_with_parent
from ...core.storage import full_disk, is_short_of_room
from ...core.text import escape
from ...schemas.image_reference import ImageId, ImageReference, parse_image
from ..base import Image, Observer
from .layout import platform_manifest
from .policy import with_prefix
from .unpacked import ImageStore, UnpackedImage

__all__ = ["RegistryImages"]

_MOST_INDEXES = 4
_POLICIES = (Path("~/.config/containers/policy.json"), Path("/etc/containers/policy.json"))
_MESSAGE = re.compile(r'msg="((?:[^"\\]|\\.)*)"')
# What skopeo passes on of a registry that does not have the image, or not for this caller.
_MISSING = (
    "manifest unknown",
    "name unknown",
    "name not known",
    "statuscode: 404",
    "no image found in",
    "access to the resource is denied",
    "unauthorized",
    "authentication required",
)


class RegistryImages:
    """Images by their names.

    Args:
        store: Where they are kept, unpacked.
        settings: Of ``images``.
    """

    def __init__(self, store: ImageStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    @contextlib.contextmanager
    def image(self, wanted: str, observer: Observer) -> Iterator[tuple[Image, UnpackedImage]]:
        """The image of a name, from the store or from its registry, as ``images.pull_policy`` says.

        It stays for as long as the block lasts. Whether it is allowed is not asked here.

        Args:
            wanted: As meta.json names it.
            observer: Told of the stage ``pull``.

        Raises:
            AutoScorerError: ``IMAGE_NOT_FOUND``, ``IMAGE_PULL_FAILED``, ``STORAGE_FULL``; ``INVALID_REQUEST`` at stage
                ``config`` where the home can't be written.
        """
        asked = parse_image(wanted)
        if isinstance(asked, ImageId):
            raise _not_found(wanted, "it is the id of an image, which only an engine knows; give its name")
        reference = with_prefix(asked, self._settings.images.registry_prefix)
        with contextlib.ExitStack() as stack:
            digest, image, source = self._find(reference, stack, observer)
            yield Image(reference=str(reference), id=image.id, digest=digest, source=source), image

    def _find(
        self, reference: ImageReference, stack: contextlib.ExitStack, observer: Observer
    ) -> tuple[str, UnpackedImage, str]:
        policy, full = self._settings.images.pull_policy, reference.normalized()
        tagged = f"tag {full}"
        digest = full.digest or (None if policy == "always" else self._store.recall(tagged))
        if digest is not None:
            image = stack.enter_context(self._store.known(f"digest {digest}"))
            if image is not None:
                return digest, image, "local"
        if policy == "never":
            raise _not_found(str(reference), "it is not among the unpacked images, and images.pull_policy is 'never'")
        puller = _Puller(reference, self._settings, observer)
        manifest, digest = puller.resolve()
        key = f"digest {digest}"
        image = stack.enter_context(self._store.known(key))
        source = "local"
        if image is None:
            with self._store.workplace(key) as folder:
                # Whoever had the place before may have pulled it.
                image = stack.enter_context(self._store.known(key))
                if image is None:
                    source = "registry"
                    puller.copy(manifest, folder / "image")
                    most = self._settings.images.max_archive
                    observer.stage("load", str(reference))
                    image = stack.enter_context(self._store.layout(folder / "image", most, observer.progress))
                    self._store.remember(key, image.id)
        if full.digest is None:
            self._store.remember(tagged, digest)
        return digest, image, source


class _Puller:
    """Pulls one image; all of it together has ``images.pull_timeout`` seconds."""

    def __init__(self, reference: ImageReference, settings: Settings, observer: Observer) -> None:
        self._reference, self._settings, self._observer = reference, settings, observer
        self._deadline = time.monotonic() + settings.images.pull_timeout
        full = reference.normalized()
        self._repository = f"docker://{full.domain}/{full.path}"
        self._name = f"{self._repository}@{full.digest}" if full.digest else f"{self._repository}:{full.tag}"
        program = shutil.which("skopeo")
        if program is None:
            raise AutoScorerError(
                ErrorCode.IMAGE_PULL_FAILED,
                f"The image {str(reference)!r} must be fetched from its registry, and without a container engine that "
                "takes skopeo, which is not installed (Debian, Ubuntu: `apt-get install skopeo`). Install it, or put "
                "image.tar into the workspace.",
                details={"image": str(reference)},
            )
        has_policy = any(path.expanduser().exists() for path in _POLICIES)
        self._command = [program, *([] if has_policy else ["--insecure-policy"]), "--override-os", "linux"]

    def resolve(self) -> tuple[Any, str]:
        """The manifest or index that the name stands for, and its digest."""
        raw = self._run("inspect", "--raw", self._name)
        asked = self._reference.digest
        algorithm = asked.partition(":")[0] if asked else "sha256"
        found = f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"
        if asked not in (None, found):
            raise _not_found(str(self._reference), f"its registry delivers another one, {found}")
        return self._parsed(raw), found

    def copy(self, manifest: Any, folder: Path) -> None:
        """Fetch the image for this machine into a folder, as an OCI layout."""
        digest: str | None = None
        try:
            for _ in range(_MOST_INDEXES):
                chosen = platform_manifest(manifest)
                if chosen is None:
                    break
                digest = chosen
                manifest = self._parsed(self._run("inspect", "--raw", f"{self._repository}@{digest}"))
            size = sum(_layer_sizes(manifest))
        except ValueError as error:
            raise _not_found(str(self._reference), str(error)) from error
        most = self._settings.images.max_archive
        if size > most:
            why = f"it has {size:,} bytes, more than the allowed {most:,} bytes (images.max_archive)"
            raise _not_found(str(self._reference), why)
        name = self._name if digest is None else f"{self._repository}@{digest}"
        self._run("copy", "--quiet", name, f"oci:{folder}:image", folder=folder)

    def _parsed(self, raw: bytes) -> Any:
        try:
            return json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise _not_found(str(self._reference), "its manifest is not JSON") from error

    def _run(self, *arguments: str, folder: Path | None = None) -> bytes:
        """Run skopeo, with retries: a registry that stumbles is ours to retry, an image that does not exist is not."""
        tries = self._settings.images.pull_retries + 1
        for attempt in range(tries):
            self._observer.stage("pull", str(self._reference))
            try:
                return self._run_once(*arguments)
            except _SkopeoFailedError as error:
                why = str(error)
            if any(part in why.lower() for part in _MISSING):
                raise _not_found(str(self._reference), f"its registry says: {why}")
            full = OSError(errno.ENOSPC, "") if is_short_of_room(self._settings.home) else None
            if folder is not None and full is not None and (short := full_disk(full, home=self._settings.home)):
                raise short
            if attempt == tries - 1 or time.monotonic() > self._deadline:
                raise AutoScorerError(
                    ErrorCode.IMAGE_PULL_FAILED,
                    f"The image {str(self._reference)!r} could not be pulled ({attempt + 1} tries): {why}",
                    details={"image": str(self._reference), "tries": attempt + 1},
                )
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            time.sleep(min(2**attempt, 8))
        raise AssertionError("unreachable")

    def _run_once(self, *arguments: str) -> bytes:
        parent = os.getpid()
        try:
            process = subprocess.Popen(
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent),
            )
        except OSError as error:
            raise _SkopeoFailedError(f"skopeo could not be started: {error.strerror}") from error
        with process:
            try:
                out, err = process.communicate(timeout=max(self._deadline - time.monotonic(), 0.1))
            except BaseException as error:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    limit = self._settings.images.pull_timeout
                    raise _SkopeoFailedError(f"not done after {limit:g} s (images.pull_timeout)") from error
                raise
        if process.returncode != 0:
            raise _SkopeoFailedError(_said(err) or f"skopeo ended with {describe_exit(process.returncode)}")
        return out


class _SkopeoFailedError(Exception):
    """One call of skopeo failed; ``str()`` says why."""


def _layer_sizes(manifest: Any) -> list[int]:
    layers = manifest.get("layers") if isinstance(manifest, dict) else None
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ValueError("its manifest lists no layers")
    sizes = [layer.get("size") for layer in layers]
    found = [size for size in sizes if isinstance(size, int) and size >= 0]
    if len(found) != len(sizes):
        raise ValueError("its manifest does not say how large the layers are")
    return found


def _said(err: bytes) -> str:
    """What skopeo says last, as one line of at most 400 characters."""
    text = err.decode("utf-8", "replace")
    messages = _MESSAGE.findall(text)
    if messages:
        text = messages[-1].replace(r"\"", '"').replace(r"\n", " ")
    return escape(" ".join(text.split())[-400:])


def _not_found(image: str, why: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.IMAGE_NOT_FOUND, f"The image {image!r} is not to be had: {why}.", details={"image": image}
    )
