"""Which image a job may use: the operator's patterns judge its full name; a workspace may bring an image along."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.workspace import Workspace, open_regular
from ...schemas.image_reference import ImageId, ImageReference, parse_image
from ...schemas.job import Job
from .dockerfile import MAX_BYTES, DockerfileError
from .dockerfile_policy import Base, bases

__all__ = [
    "ARCHIVES",
    "allowed",
    "archive_of",
    "checked_dockerfile",
    "id_refused",
    "image_source",
    "refused_dockerfile",
    "sandbox_source",
    "which_images",
    "with_prefix",
]

ARCHIVES = ("image.tar", "image.tar.gz")


def image_source(workspace: Workspace, job: Job, settings: Settings) -> str:
    """Say where the image will come from: ``reference``, ``archive`` or ``build``.

    Raises:
        AutoScorerError: ``IMAGE_NOT_ALLOWED``, or ``INVALID_META`` when there is nothing to get an image from.
    """
    security = settings.security
    if job.container.image is not None:
        _refuse_image(parse_image(job.container.image), settings)
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
        checked_dockerfile(workspace, settings)
        return "build"
    raise AutoScorerError(
        ErrorCode.INVALID_META,
        "No image: meta.json has no container.image, and the workspace has neither image.tar nor a Dockerfile. "
        "Give one of them.",
        details={"key": "container.image"},
    )


def sandbox_source(workspace: Workspace, job: Job, settings: Settings) -> str:
    """Say what a model's system will be where no engine builds images: ``reference``, ``archive`` or ``host``.

    Raises:
        AutoScorerError: As ``image_source``; ``IMAGE_NOT_ALLOWED`` for the workspace's own files where it may not build
            from them either; ``IMAGE_BUILD_FAILED`` for a Dockerfile that alone says what to run.
    """
    if job.container.image is not None or archive_of(workspace) is not None:
        return image_source(workspace, job, settings)
    if job.container.cmd:
        if not settings.security.builds:
            raise AutoScorerError(
                ErrorCode.IMAGE_NOT_ALLOWED,
                "Running a workspace's own files without an image is not allowed here (security.allow_build); name an "
                "image in meta.json.",
            )
        return "host"
    if (workspace.root / "Dockerfile").is_file():
        raise AutoScorerError(
            ErrorCode.IMAGE_BUILD_FAILED,
            "A Dockerfile needs a container engine, and the backend bubblewrap has none. Build it elsewhere and bring "
            "the image as image.tar (`docker save`, or `buildah push IMAGE docker-archive:image.tar`), or give "
            "container.cmd, which then runs on the host's own system.",
            details={"log": []},
        )
    return image_source(workspace, job, settings)


def checked_dockerfile(workspace: Workspace, settings: Settings) -> tuple[bytes, list[Base]]:
    """Read the workspace's Dockerfile, and check what it does where ``security.dockerfiles`` is ``strict``.

    Returns:
        Its bytes, and the images it begins with that are not the operator's; none where anything is allowed.

    Raises:
        AutoScorerError: ``IMAGE_NOT_ALLOWED`` or ``IMAGE_BUILD_FAILED``, with the line in ``details``.
    """
    try:
        with open_regular(workspace.root / "Dockerfile", stage=Stage.VALIDATION) as file:
            data = file.read(MAX_BYTES + 1)
    except AutoScorerError as error:
        raise AutoScorerError(ErrorCode.IMAGE_BUILD_FAILED, error.message, details={"log": []}) from error
    if len(data) > MAX_BYTES:
        raise refused_dockerfile(DockerfileError(1, f"a Dockerfile has at most {MAX_BYTES:,} bytes"))
    if settings.security.dockerfiles == "any":
        return data, []
    try:
        found = bases(data, settings.images.build_args)
    except DockerfileError as error:
        raise refused_dockerfile(error) from error
    for base in found:
        try:
            _refuse_image(base.image, settings)
        except AutoScorerError as error:
            line = base.instruction.first_line
            error.message = f"Dockerfile, line {line}: {error.message}"
            error.details["line"] = line
            raise
    return data, found


def refused_dockerfile(error: DockerfileError) -> AutoScorerError:
    """The error that a submission gets for a line of its Dockerfile."""
    if error.forbidden:
        return AutoScorerError(
            ErrorCode.IMAGE_NOT_ALLOWED,
            f"Dockerfile, line {error.line}: {error.why}. (security.dockerfiles is 'strict'.)",
            details={"line": error.line},
        )
    return AutoScorerError(
        ErrorCode.IMAGE_BUILD_FAILED,
        f"Dockerfile, line {error.line}: {error.why}.",
        details={"line": error.line, "log": []},
    )


def _refuse_image(image: ImageReference | ImageId, settings: Settings) -> None:
    """Refuse an image that the operator does not allow.

    Raises:
        AutoScorerError: ``IMAGE_NOT_ALLOWED``.
    """
    security = settings.security
    if isinstance(image, ImageId):
        if not security.allow_image_ids:
            raise id_refused(str(image))
    elif not allowed(image, security.image_patterns):
        only = ", ".join(security.image_patterns) or "no image at all"
        raise AutoScorerError(
            ErrorCode.IMAGE_NOT_ALLOWED,
            f"The image {str(image)!r} is not allowed here, only {only}.",
            details={"image": str(image), "allowed": list(security.image_patterns)},
        )


def id_refused(text: str) -> AutoScorerError:
    """What an image given by its id is told: an id names every image of the engine, whosever it is."""
    return AutoScorerError(
        ErrorCode.IMAGE_NOT_ALLOWED,
        f"{text!r} could be the id of an image, and images are given by name here (security.allow_image_ids). Write "
        "the image's name with its tag.",
        details={"image": text},
    )


def allowed(reference: ImageReference, patterns: tuple[str, ...]) -> bool:
    """Whether an image matches one of the operator's patterns.

    Args:
        reference: As it was asked for. Only its normalized name counts, in its full and its familiar spelling; with a
            digest the tag counts for nothing, as in the engine.
        patterns: ``*`` stands for any characters, ``/`` among them, and ``?`` for one; case-sensitive. A pattern
            without either is a reference, and names the same image however both are spelled.
    """
    full, short = reference.normalized(), reference.familiar()
    spellings = {str(full), str(short)}
    if full.domain == "docker.io":
        spellings.add(str(full).removeprefix("docker.io/"))
    if full.tag == "latest":
        spellings |= {text.removesuffix(":latest") for text in spellings}
    for pattern in patterns:
        if not any(sign in pattern for sign in "*?["):
            try:
                wanted = parse_image(pattern)
            except ValueError:
                continue
            if isinstance(wanted, ImageReference) and wanted.normalized() == full:
                return True
        elif any(fnmatch.fnmatchcase(text, pattern) for text in spellings):
            return True
    return False


def with_prefix(reference: ImageReference, prefix: str) -> ImageReference:
    """The name in the operator's mirror, where the job names no registry.

    Raises:
        AutoScorerError: ``INVALID_META`` where both together are no name.
    """
    if reference.domain is not None or not prefix:
        return reference
    try:
        joined = parse_image(f"{prefix.rstrip('/')}/{reference}")
    except ValueError as error:
        raise AutoScorerError(
            ErrorCode.INVALID_META,
            f"container.image: {str(reference)!r} is not an image reference with images.registry_prefix before it: "
            f"{error}",
            details={"key": "container.image"},
        ) from error
    assert isinstance(joined, ImageReference)
    return joined


def which_images(settings: Settings) -> str:
    """Which images a submission may name, in words, for doctor and the log of every start."""
    security = settings.security
    if not security.image_patterns:
        return 'no image may be run: security.allowed_images is ["none"]'
    if "*" not in security.image_patterns:
        return f"only images that match {', '.join(security.image_patterns)} may be run (security.allowed_images)"
    why = "is empty, which restricts nothing" if not security.allowed_images else "holds *"
    return f"every image that a submission names may be run: security.allowed_images {why}"


def archive_of(workspace: Workspace) -> Path | None:
    """The workspace's image archive, if it has one."""
    for name in ARCHIVES:
        path = workspace.root / name
        if path.is_file() and not path.is_symlink():
            return path
    return None
