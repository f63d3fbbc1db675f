"""Where the model's image comes from: the engine, a registry, an archive in the workspace, or a Dockerfile."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.workspace import Workspace
from ...schemas.image_reference import ImageId, ImageReference, parse_image
from ...schemas.job import Job
from ..base import Image, Observer
from ..images.archive import untagged
from ..images.dockerfile import DockerfileError
from ..images.dockerfile_policy import Base, pinned, refuse_trigger
from ..images.policy import (
    archive_of,
    checked_dockerfile,
    id_refused,
    image_source,
    refused_dockerfile,
    with_prefix,
)
from .build import BASE_HINT, build_failed, pack, run_build
from .engine import engine_errors

__all__ = ["DockerImages"]

BUILT = "autoscorer/built"
LOADED = "autoscorer/loaded"


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
        images = self._settings.images
        archive = archive_of(workspace) if self._settings.security.archives else None
        if isinstance(asked, ImageId) or images.pull_policy != "always" or archive is not None:
            found = self._here(asked, or_refuse=archive is None)
            if found is not None:
                reference = asked if isinstance(asked, ImageId) else with_prefix(asked, images.registry_prefix)
                return _image(str(reference), found, "local")
        if archive is not None:
            return self._load(archive, observer, reference=wanted)
        assert isinstance(asked, ImageReference)
        return self._pull(asked, observer)

    def _here(self, asked: ImageReference | ImageId, *, or_refuse: bool = True) -> dict[str, Any] | None:
        """Look for an image on the engine; None when it has to be pulled.

        Args:
            asked: What was asked for.
            or_refuse: Whether to refuse what can't be pulled either.

        Raises:
            AutoScorerError: ``IMAGE_NOT_FOUND``, or ``IMAGE_NOT_ALLOWED`` for what only an id could be.
        """
        images, security = self._settings.images, self._settings.security
        if isinstance(asked, ImageId):
            return self._by_id(asked)
        reference = with_prefix(asked, images.registry_prefix)
        # The name as it stands first: an image built here has no registry.
        found = self._named(asked) or self._named(reference)
        if found is not None or not or_refuse:
            return found
        if reference.could_be_an_id:
            if not security.allow_image_ids:
                raise id_refused(str(asked))
            return self._by_id(ImageId(str(asked)))
        if images.pull_policy == "never":
            raise AutoScorerError(
                ErrorCode.IMAGE_NOT_FOUND,
                f"The image {str(asked)!r} is not on this engine, and images.pull_policy is 'never'. Load it, or put "
                "image.tar into the workspace.",
                details={"image": str(asked)},
            )
        return None

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
                        f"container.image: {reference!r} is not a valid image reference.",
                        details={"key": "container.image"},
                    ) from error
                raise

    def _pull(self, asked: ImageReference, observer: Observer) -> Image:
        """Pull with retries: a registry that stumbles is ours to retry, an image that does not exist is not."""
        import docker.errors
        import requests
        import urllib3.exceptions

        images = self._settings.images
        deadline = time.monotonic() + images.pull_timeout
        wanted = with_prefix(asked, images.registry_prefix)
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
                        f"{archive.name} is not an image that the engine can load: "
                        f"{' '.join(str(error).split())[:300]}",
                    ) from error
            found = self._inspect(tag)
            if found is None:
                raise AutoScorerError(ErrorCode.IMAGE_NOT_FOUND, f"{archive.name} holds no image.")
        return _image(reference or tag, found, "archive")

    def _build(self, workspace: Workspace, observer: Observer) -> Image:
        dockerfile, bases = checked_dockerfile(workspace, self._settings)
        also = (repr(sorted(self._settings.images.build_args.items())), self._settings.security.dockerfiles)
        with tempfile.TemporaryFile() as context:
            tag = f"{BUILT}:{pack(workspace, dockerfile, context, *also)}"
            found = self._inspect(tag)
            if found is not None:
                return _image(tag, found, "built")
            ids = {base.instruction: self._base(base, observer) for base in bases}
            observer.stage("build", "Dockerfile")
            if ids:
                context.truncate(0)
                pack(workspace, pinned(dockerfile, ids), context)
            run_build(self._client, self._settings, context, tag, observer)
        found = self._inspect(tag)
        if found is None:
            raise build_failed("the build ended without an image", [])
        return _image(tag, found, "built")

    def _base(self, base: Base, observer: Observer) -> str:
        """The id of an image that a Dockerfile begins with: here already, or pulled; its triggers are harmless."""
        asked, line = base.image, base.instruction.first_line
        try:
            found = self._here(asked)
            if found is None:
                assert isinstance(asked, ImageReference)
                found = self._inspect(self._pull(asked, observer).id) or {}
        except AutoScorerError as error:
            error.message = f"Dockerfile, line {line}: {error.message}"
            error.details["line"] = line
            if error.code is ErrorCode.IMAGE_PULL_FAILED:
                error.message += f" {BASE_HINT}"
            raise
        for trigger in (found.get("Config") or {}).get("OnBuild") or []:
            try:
                refuse_trigger(trigger)
            except DockerfileError as error:
                why = f"the image {str(asked)!r} has an ONBUILD instruction: {error.why}"
                raise refused_dockerfile(DockerfileError(line, why, forbidden=True)) from error
        return str(found["Id"])


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
