"""The parameters of a flow run, which come from anybody who may talk to Prefect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..core.errors import AutoScorerError, ErrorCode

__all__ = ["parsed"]

Model = TypeVar("Model", bound=BaseModel)


def parsed(kind: type[Model], parameters: Mapping[str, Any]) -> Model:
    """What a flow is called with.

    Args:
        kind: What its parameters are.
        parameters: As Prefect has them.

    Raises:
        AutoScorerError: ``INVALID_REQUEST``, naming each that is wrong.
    """
    try:
        return kind.model_validate(dict(parameters))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_url=False)]
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"The flow run's parameters are not those of its flow: {'; '.join(problems)}. Start it again with others.",
            details={"problems": problems},
        ) from None
