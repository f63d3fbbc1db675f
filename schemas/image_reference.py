"""Names of images, by the grammar that Docker, Podman and every registry read them with.

``registry.example:5000/team/model:1@sha256:…`` is a domain, a path of components, a tag and a digest
(github.com/distribution/reference). A name that is no such thing never reaches an engine: a client builds the address
of the engine's API from it, where ``..`` or ``?`` would lead elsewhere.

A name is *familiar* as people write it (``python:3.12``) and *normalized* as engines and registries keep it
(``docker.io/library/python:3.12``). One image has one normalized name, so whatever judges names judges that one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

__all__ = ["ImageId", "ImageReference", "parse_image"]

_DEFAULT_DOMAIN = "docker.io"
_OLD_DEFAULT_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_DEFAULT_TAG = "latest"
_MAX_NAME = 255
# A name, a tag and a digest at their longest are shorter than this.
_MAX_TEXT = 600

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# The algorithms that engines register; each has one length.
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}")
_ID = re.compile(r"[a-f0-9]{64}|sha256:[a-f0-9]{1,64}")
_HEX = re.compile(r"[a-f0-9]{1,63}")
_EXPECTED = "expected an image reference such as 'registry.example/team/model:1'"


@dataclass(frozen=True)
class ImageReference:
    """A name of an image, split; ``str()`` gives it back as it was written.

    Attributes:
        domain: The registry with its port, None where none was written.
        path: Lower-case components, joined by ``/``.
        tag: None where none was written.
        digest: With its algorithm, None where none was written.
    """

    domain: str | None
    path: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        name = f"{self.domain}/{self.path}" if self.domain is not None else self.path
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{name}{tag}{digest}"

    @property
    def could_be_an_id(self) -> bool:
        """Whether an engine that has no image of this name would look for an id that begins so."""
        return str(self) == self.path and _HEX.fullmatch(self.path) is not None

    def normalized(self) -> ImageReference:
        """The one full name: with a domain, and with a digest or else a tag.

        Where both are written the tag goes, as in every engine: the digest alone decides what is run.
        """
        domain = _DEFAULT_DOMAIN if self.domain in (None, _OLD_DEFAULT_DOMAIN) else self.domain
        official = domain == _DEFAULT_DOMAIN and "/" not in self.path
        return ImageReference(
            domain=domain,
            path=_OFFICIAL + self.path if official else self.path,
            tag=None if self.digest else (self.tag or _DEFAULT_TAG),
            digest=self.digest,
        )

    def familiar(self) -> ImageReference:
        """The normalized name as people write it, without Docker Hub's domain and ``library/``."""
        full = self.normalized()
        if full.domain != _DEFAULT_DOMAIN:
            return full
        short = full.path.removeprefix(_OFFICIAL)
        return replace(full, domain=None, path=full.path if "/" in short else short)


@dataclass(frozen=True)
class ImageId:
    """An image by its id, or by how the id begins; ``str()`` gives it back as it was written."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def digits(self) -> str:
        """The id's hexadecimal digits, without the algorithm."""
        return self.text.removeprefix("sha256:")


def parse_image(text: str) -> ImageReference | ImageId:
    """Read what stands for an image.

    Args:
        text: A name, or an id: 64 hexadecimal digits, or ``sha256:`` and at most 64 of them. Fewer digits alone are a
            name, as ``cafe`` is.

    Raises:
        ValueError: It is neither.
    """
    if len(text) > _MAX_TEXT:
        raise ValueError(f"expected an image reference of at most {_MAX_TEXT} characters, got {len(text):,}")
    if _ID.fullmatch(text):
        return ImageId(text)
    name, at, digest = text.partition("@")
    domain, rest = _split_domain(name)
    path, colon, tag = rest.partition(":")
    if domain is not None and not _DOMAIN.fullmatch(domain):
        raise ValueError(f"{_EXPECTED}; what stands before the first '/' is not the name of a registry")
    if not _PATH.fullmatch(path):
        raise ValueError(
            f"{_EXPECTED}: parts of lower-case letters and digits, with single '.', '_' or '-' between them, "
            "separated by '/'"
        )
    if colon and not _TAG.fullmatch(tag):
        raise ValueError(f"{_EXPECTED}; a tag has at most 128 letters, digits, '_', '.' and '-'")
    if at and not _DIGEST.fullmatch(digest):
        raise ValueError(f"{_EXPECTED}; a digest is 'sha256:' and 64 hexadecimal digits")
    reference = ImageReference(domain, path, tag if colon else None, digest if at else None)
    full = reference.normalized()
    if len(f"{full.domain}/{full.path}") > _MAX_NAME:
        raise ValueError(f"expected an image name of at most {_MAX_NAME} characters")
    return reference


def _split_domain(name: str) -> tuple[str | None, str]:
    """The registry in front, if there is one: a first part that no path could begin with."""
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or any(sign in first for sign in ".:") or first.lower() != first):
        return first, rest
    return None, name
