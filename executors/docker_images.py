"""Where the model's image comes from: the engine, a registry, an archive in the workspace, or a Dockerfile."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import re
import tarfile
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.exposure import build_context
from ..core.workspace import Workspace
from ..schemas.job import Job
from .archive import untagged
from .base import Image, Observer
from .docker_engine import engine_errors
from .verdict import clean_text

__all__ = ["ARCHIVES", "DockerImages", "allowed", "image_source"]

ARCHIVES = ("image.tar", "image.tar.gz")
BUILT = "autoscorer/built"
LOADED = "autoscorer/loaded"
_BUILD_LINES = 30


def allowed(reference: str, patterns: tuple[str, ...]) -> bool:
    """Whether an image reference matches one of the operator's patterns (``*`` and ``?``, case-sensitive)."""
    full = reference if _has_tag(reference) else f"{reference}:latest"
    return any(fnmatch.fnmatchcase(reference, p) or fnmatch.fnmatchcase(full, p) for p in patterns)


def image_source(workspace: Workspace, job: Job, settings: Settings) -> str:
    """Say where the image will come from: ``reference``, ``archive`` or ``build``.

    Raises:
        AutoScorerError: ``IMAGE_NOT_ALLOWED``, or ``INVALID_META`` when there is nothing to get an image from.
    """
    security = settings.security
    if job.container.image is not None:
        if not allowed(job.container.image, security.allowed_images):
            raise AutoScorerError(
                ErrorCode.IMAGE_NOT_ALLOWED,
                f"The image {job.container.image!r} is not allowed here, only {', '.join(security.allowed_images)}.",
                details={"image": job.container.image, "allowed": list(security.allowed_images)},
            )
        return "reference"
    if archive_of(workspace) is not None:
        if not security.archives:
            raise AutoScorerError(
                ErrorCode.IMAGE_NOT_ALLOWED,
                "Image archives are not allowed here (security.allow_image_archive); name an image in meta.json.",
            )
        return "archive"
    if (workspace.root / "Dockerfile").is_file():
        if not security.builds:
            raise AutoScorerError(
                ErrorCode.IMAGE_NOT_ALLOWED,
                "Building a Dockerfile is not allowed here (security.allow_build); name an image in meta.json.",
            )
        return "build"
    raise AutoScorerError(
        ErrorCode.INVALID_META,
        "No image: meta.json has no container.image, and the workspace has neither image.tar nor a Dockerfile. "
        "Give one of them.",
        details={"key": "container.image"},
    )


def archive_of(workspace: Workspace) -> Path | None:
    """The workspace's image archive, if it has one."""
    for name in ARCHIVES:
        path = workspace.root / name
        if path.is_file() and not path.is_symlink():
            return path
    return None


class DockerImages:
    """Resolves a job to an image on one engine."""

    def __init__(self, client: Any, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    def resolve(self, workspace: Workspace, job: Job, observer: Observer) -> Image:
        """Get the image of a job.

        Raises:
            AutoScorerError: ``IMAGE_NOT_ALLOWED``, ``IMAGE_NOT_FOUND``, ``IMAGE_PULL_FAILED``,
                ``IMAGE_BUILD_FAILED``, ``INVALID_META`` or ``BACKEND_UNAVAILABLE``.
        """
        source = image_source(workspace, job, self._settings)
        if source == "archive":
            archive = archive_of(workspace)
            assert archive is not None
            return self._load(archive, observer)
        if source == "build":
            return self._build(workspace, observer)
        assert job.container.image is not None
        return self._by_reference(job.container.image, workspace, observer)

    def _by_reference(self, wanted: str, workspace: Workspace, observer: Observer) -> Image:
        images = self._settings.images
        reference = _with_prefix(wanted, images.registry_prefix)
        archive = archive_of(workspace) if self._settings.security.archives else None
        if images.pull_policy != "always" or archive is not None:
            # The name as it stands first: an image built here has no registry.
            found = self._inspect(wanted) or self._inspect(reference)
            if found is not None:
                return _image(reference, found, "local")
        if archive is not None:
            return self._load(archive, observer, reference=wanted)
        if images.pull_policy == "never":
            raise AutoScorerError(
                ErrorCode.IMAGE_NOT_FOUND,
                f"The image {wanted!r} is not on this engine, and images.pull_policy is 'never'. Load it, or put "
                "image.tar into the workspace.",
                details={"image": wanted},
            )
        return self._pull(reference, observer)

    def _inspect(self, reference: str) -> dict[str, Any] | None:
        import docker.errors

        with engine_errors("look for the image"):
            try:
                found: dict[str, Any] = self._client.inspect_image(reference)
                return found
            except docker.errors.ImageNotFound:
                return None
            except docker.errors.APIError as error:
                if error.status_code == 400:
                    raise AutoScorerError(
                        ErrorCode.INVALID_META,
                        f"container.image: {reference!r} is no valid image reference.",
                        details={"key": "container.image"},
                    ) from error
                raise

    def _pull(self, reference: str, observer: Observer) -> Image:
        """Pull with retries: a registry that stumbles is ours to retry, an image that does not exist is not."""
        import docker.errors
        import requests
        import urllib3.exceptions

        images = self._settings.images
        deadline = time.monotonic() + images.pull_timeout
        name, tag = _split(reference)
        for attempt in range(images.pull_retries + 1):
            observer.stage("pull", reference)
            try:
                for event in self._client.pull(name, tag=tag, stream=True, decode=True):
                    if "error" in event:
                        raise docker.errors.APIError(event["error"])
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"not done after {images.pull_timeout:g} s")
                found = self._inspect(reference)
                if found is not None:
                    return _image(reference, found, "registry")
                raise docker.errors.APIError("the engine pulled it and does not have it")
            except (
                docker.errors.APIError,
                requests.RequestException,
                urllib3.exceptions.HTTPError,
                OSError,
                ValueError,
            ) as error:
                why = " ".join(str(getattr(error, "explanation", None) or error).split())[:400]
                if _missing(error, why):
                    raise AutoScorerError(
                        ErrorCode.IMAGE_NOT_FOUND,
                        f"No registry has the image {reference!r}: {why}",
                        details={"image": reference},
                    ) from error
                if attempt == images.pull_retries or time.monotonic() > deadline:
                    raise AutoScorerError(
                        ErrorCode.IMAGE_PULL_FAILED,
                        f"The image {reference!r} could not be pulled ({attempt + 1} tries): {why}",
                        details={"image": reference, "tries": attempt + 1},
                    ) from error
                time.sleep(min(2**attempt, 8))
        raise AssertionError("unreachable")

    def _load(self, archive: Path, observer: Observer, reference: str | None = None) -> Image:
        """Load an archive under a tag of ours; the tags it carries are dropped, or it could replace any image here."""
        import docker.errors

        with archive.open("rb") as file:
            tag = f"{LOADED}:{hashlib.file_digest(file, 'sha256').hexdigest()[:32]}"
        found = self._inspect(tag)
        if found is None:
            observer.stage("load", archive.name)
            with (
                engine_errors("load the image archive"),
                untagged(archive, tag, self._settings.images.max_archive) as tar,
            ):
                try:
                    for event in self._client.load_image(tar):
                        if "error" in event:
                            raise docker.errors.APIError(event["error"])
                except docker.errors.APIError as error:
                    raise AutoScorerError(
                        ErrorCode.IMAGE_NOT_FOUND,
                        f"{archive.name} is no image the engine can load: {' '.join(str(error).split())[:300]}",
                    ) from error
            found = self._inspect(tag)
            if found is None:
                raise AutoScorerError(ErrorCode.IMAGE_NOT_FOUND, f"{archive.name} holds no image.")
        return _image(reference or tag, found, "archive")

    def _build(self, workspace: Workspace, observer: Observer) -> Image:

        images = self._settings.images
        with tempfile.TemporaryFile() as context:
            tag = f"{BUILT}:{_pack(workspace, images.build_args, context)}"
            found = self._inspect(tag)
            if found is not None:
                return _image(tag, found, "built")
            observer.stage("build", "Dockerfile")
            self._run_build(context, tag, observer)
        found = self._inspect(tag)
        if found is None:
            raise _build_failed("the build ended without an image", [])
        return _image(tag, found, "built")

    def _run_build(self, context: IO[bytes], tag: str, observer: Observer) -> None:
        import docker.errors
        import urllib3.exceptions

        images = self._settings.images
        late = f"not done after {images.build_timeout:g} s"
        deadline = time.monotonic() + images.build_timeout
        lines: list[str] = []
        with engine_errors("build the image"):
            try:
                events = self._client.build(
                    fileobj=context,
                    custom_context=True,
                    tag=tag,
                    rm=True,
                    forcerm=True,
                    decode=True,
                    buildargs=dict(images.build_args),
                    network_mode="none" if images.build_network == "none" else None,
                    container_limits={"memory": self._settings.security.limits.memory},
                    labels={"io.autoscorer.built": "1"},
                    timeout=images.build_timeout,
                )
                # Leaving early closes the connection, and the engine then cancels the build.
                with contextlib.closing(events):
                    for event in events:
                        line = clean_text(str(event.get("stream") or event.get("error") or "")).strip()
                        if line:
                            lines.append(line)
                            observer.log(line)
                        if "error" in event:
                            raise _build_failed(" ".join(event["error"].split())[:300], lines)
                        if time.monotonic() > deadline:
                            raise _build_failed(late, lines)
            except docker.errors.APIError as error:
                raise _build_failed(" ".join(str(error.explanation or error).split())[:300], lines) from error
            except urllib3.exceptions.TimeoutError as error:
                raise _build_failed(late, lines) from error


def _build_failed(why: str, lines: list[str]) -> AutoScorerError:
    # What the engine itself says of a registry it can't reach; a RUN step's own words never begin an error.
    if re.match(r'(Get|Head) "https?://|error pulling image|toomanyrequests|net/http', why):
        return AutoScorerError(
            ErrorCode.IMAGE_PULL_FAILED,
            f"The Dockerfile's base image could not be pulled: {why}. Where no registry can be reached, name a base "
            "image that is here in images.build_args; scripts/build-base-image makes one from Debian packages.",
            details={"log": lines[-_BUILD_LINES:]},
        )
    return AutoScorerError(
        ErrorCode.IMAGE_BUILD_FAILED,
        f"The Dockerfile does not build: {why}. The last lines of the build are in details.",
        details={"log": lines[-_BUILD_LINES:]},
    )


def _pack(workspace: Workspace, build_args: dict[str, str], target: IO[bytes]) -> str:
    """Write the build context as a tar with fixed times and owners; return a hash of its content and the arguments."""
    digest = hashlib.sha256(repr(sorted(build_args.items())).encode())
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in build_context(workspace):
            info = tar.gettarinfo(path, arcname=str(path.relative_to(workspace.root)))
            if not (info.isreg() or info.issym()):
                continue
            info.type = tarfile.SYMTYPE if info.issym() else tarfile.REGTYPE
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = ""
            info.mode = 0o755 if info.mode & 0o111 else 0o644
            if info.issym():
                tar.addfile(info)
            else:
                info.size = path.stat().st_size
                with path.open("rb") as file:
                    tar.addfile(info, file)
    target.seek(0)
    while block := target.read(1 << 20):
        digest.update(block)
    target.seek(0)
    return digest.hexdigest()[:32]


def _image(reference: str, found: dict[str, Any], source: str) -> Image:
    digests = found.get("RepoDigests") or []
    digest = digests[0].rpartition("@")[2] if digests else found["Id"]
    return Image(reference=reference, id=found["Id"], digest=digest, source=source)


def _has_tag(reference: str) -> bool:
    return "@" in reference or ":" in reference.rpartition("/")[2]


def _split(reference: str) -> tuple[str, str]:
    if "@" in reference:
        name, _, digest = reference.partition("@")
        return name, digest
    if not _has_tag(reference):
        return reference, "latest"
    name, _, tag = reference.rpartition(":")
    return name, tag


def _with_prefix(reference: str, prefix: str) -> str:
    first, slash, _ = reference.partition("/")
    has_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return reference if has_registry or not prefix else f"{prefix.rstrip('/')}/{reference}"


def _missing(error: Exception, why: str) -> bool:
    text = why.lower()
    return getattr(error, "status_code", None) == 404 or any(
        part in text
        for part in (
            "not found",
            "manifest unknown",
            "repository does not exist",
            "access denied",
            "no matching manifest",
        )
    )
