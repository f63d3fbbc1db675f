"""Which image a job runs in the cluster: one that its nodes can pull, by name."""

from __future__ import annotations

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.workspace import Workspace
from ...schemas.image_reference import ImageReference, parse_image
from ...schemas.job import Job
from ..base import Image
from ..images.policy import archive_of, id_refused, image_source, with_prefix

__all__ = ["image_of"]


def image_of(workspace: Workspace, job: Job, settings: Settings) -> Image:
    """Say which image will be pulled.

    Raises:
        AutoScorerError: ``IMAGE_NOT_ALLOWED``, or ``INVALID_META`` where the workspace brings an image along, or a
            Dockerfile: there is no engine here that could load or build it.
    """
    source = image_source(workspace, job, settings)
    if source != "reference":
        what = {"archive": "an image archive", "build": "a Dockerfile and names no image"}[source]
        raise AutoScorerError(
            ErrorCode.INVALID_META,
            f"The workspace has {what}, and the nodes of a Kubernetes cluster pull their images from a registry. Push "
            "the image to one that they reach, and name it in meta.json as container.image.",
            details={"key": "container.image"},
        )
    assert job.container.image is not None
    asked = parse_image(job.container.image)
    if not isinstance(asked, ImageReference):
        raise id_refused(str(asked))
    if settings.security.archives and archive_of(workspace) is not None:
        raise AutoScorerError(
            ErrorCode.INVALID_META,
            "The workspace has an image archive for its image's name, and the nodes of a Kubernetes cluster pull that "
            "from a registry. Push the image to one that they reach, and remove the archive.",
            details={"key": "container.image"},
        )
    reference = str(with_prefix(asked, settings.images.registry_prefix))
    return Image(reference=reference, id=reference, digest=asked.digest or "", source="registry")
