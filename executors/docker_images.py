"""Where the model's image comes from: the engine, a registry, an archive in the workspace, or a Dockerfile."""

from __future__ import annotations

import contextlib
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
from ..schemas.image_reference import ImageId, ImageReference, parse_image
from ..schemas.job import Job
from .archive import untagged
from .base import Image, Observer
from .docker_engine import engine_errors
from .image_policy import archive_of, id_refused, image_source
from .verdict import clean_text

__all__ = ["DockerImages"]

BUILT = "autoscorer/built"
LOADED = "autoscorer/loaded"
_BUILD_LINES = 30


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
        asked = parse_image(wanted)
        if isinstance(asked, ImageId):
            return _image(wanted, self._by_id(asked), "local")
        images = self._settings.images
        reference = _with_prefix(asked, images.registry_prefix)
        archive = archive_of(workspace) if self._settings.security.archives else None
        if images.pull_policy != "always" or archive is not None:
            # The name as it stands first: an image built here has no registry.
            found = self._named(asked) or self._named(reference)
            if found is not None:
                return _image(str(reference), found, "local")
        if archive is not None:
            return self._load(archive, observer, reference=wanted)
        if reference.could_be_an_id:
            if not self._settings.security.allow_image_ids:
                raise id_refused(wanted)
            return _image(wanted, self._by_id(ImageId(wanted)), "local")
        if images.pull_policy == "never":
            raise AutoScorerError(
                ErrorCode.IMAGE_NOT_FOUND,
                f"The image {wanted!r} is not on this engine, and images.pull_policy is 'never'. Load it, or put "
                "image.tar into the workspace.",
                details={"image": wanted},
            )
        return self._pull(reference, observer)

    def _named(self, reference: ImageReference) -> dict[str, Any] | None:
        """Look for an image by its full name, which no engine takes for an id, and check that it carries that name."""
        full = reference.normalized()
        found = self._inspect(str(full))
        if found is None or full not in _names(found):
            return None
        return found

    def _by_id(self, wanted: ImageId) -> dict[str, Any]:
        found = self._inspect(str(wanted))
        if found is None or not str(found["Id"]).removeprefix("sha256:").startswith(wanted.digits):
            raise AutoScorerError(
                ErrorCode.IMAGE_NOT_FOUND,
                f"No image on this engine has an id that begins with {str(wanted)!r}.",
                details={"image": str(wanted)},
            )
        return found

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

    def _pull(self, wanted: ImageReference, observer: Observer) -> Image:
        """Pull with retries: a registry that stumbles is ours to retry, an image that does not exist is not."""
        import docker.errors
        import requests
        import urllib3.exceptions

        images = self._settings.images
        deadline = time.monotonic() + images.pull_timeout
        reference, full = str(wanted), wanted.normalized()
        for attempt in range(images.pull_retries + 1):
            observer.stage("pull", reference)
            try:
                for event in self._client.pull(
                    f"{full.domain}/{full.path}", tag=full.digest or full.tag, stream=True, decode=True
                ):
                    if "error" in event:
                        raise docker.errors.APIError(event["error"])
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"not done after {images.pull_timeout:g} s")
                found = self._named(wanted)
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


def _names(found: dict[str, Any]) -> set[ImageReference]:
    """The full names that an inspected image carries."""
    names = set()
    for text in (*(found.get("RepoTags") or ()), *(found.get("RepoDigests") or ())):
        with contextlib.suppress(ValueError):  # <none>:<none>
            name = parse_image(text)
            if isinstance(name, ImageReference):
                names.add(name.normalized())
    return names


def _with_prefix(reference: ImageReference, prefix: str) -> ImageReference:
    """The name in the operator's mirror, where the job names no registry."""
    if reference.domain is not None or not prefix:
        return reference
    try:
        joined = parse_image(f"{prefix.rstrip('/')}/{reference}")
    except ValueError as error:
        raise AutoScorerError(
            ErrorCode.INVALID_META,
            f"container.image: {str(reference)!r} is no image reference with images.registry_prefix before it: {error}",
            details={"key": "container.image"},
        ) from error
    assert isinstance(joined, ImageReference)
    return joined


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
