"""What every scorer is: an id, a version, a params model, ``validate`` and ``score``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core.config_sections import Disclosure
from ..core.errors import AutoScorerError, ErrorCode, suggest
from ..schemas.result import Result

if TYPE_CHECKING:
    from ..core.config import Settings

__all__ = ["BaseScorer", "ScorerParams"]


class ScorerParams(BaseModel):
    """Params every scorer has. Subclass it to add your own; an unknown param is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    pass_threshold: float | None = Field(None, description="Score needed to pass, in the metric's own direction.")
    rank_thresholds: tuple[float, float, float] | None = Field(
        None, description="Scores needed for A, B and C, best first; the scorer's own scale when absent."
    )
    confidence_level: float = Field(0.95, gt=0.5, lt=1, description="Level of the intervals.")
    artifacts: bool = Field(True, description="Write plots, tables and report.html beside the Result.")


class BaseScorer(ABC):
    """A scorer. Subclasses set the class attributes and implement ``score``.

    One instance serves one scoring: it is made, asked to ``validate``, then to ``score``, and dropped.
    """

    name: ClassVar[str] = ""
    version: ClassVar[str] = "0.0.0"
    description: ClassVar[str] = ""
    task_type: ClassVar[str] = "custom"
    # The main metric's name in ``metrics``, and its direction; a leaderboard never guesses.
    metric: ClassVar[str] = "score"
    higher_is_better: ClassVar[bool] = True
    # Scores needed for A, B, C where the params name none; None where no scale makes sense (an RMSE).
    rank_thresholds: ClassVar[tuple[float, float, float] | None] = None
    Params: ClassVar[type[ScorerParams]] = ScorerParams
    # ``security.disclosure.min_count``, set by whoever has it score: the fewest rows that a count in
    # ``Result.disclosed`` may be of.
    min_count: int = Disclosure().min_count
    # meta.json's data.encoding, of the ground truth and of the predictions; set by whoever has it score.
    encodings: tuple[str, str] = ("utf-8", "utf-8")
    # The configuration; set by whoever has it score.
    settings: Settings | None = None
    # Told how far the scoring is, in a few words; set by whoever has it score. May be called as often as one likes.
    progress: Callable[[str], None] = staticmethod(lambda told: None)
    # Set by ``score`` where a part of what was to be scored could not be: the Result then neither passes nor ranks.
    is_partial: bool = False
    # Set by ``score`` where a judge decided that nobody has measured, though the configuration asks for that: likewise.
    is_uncalibrated: bool = False

    def parse_params(self, params: Mapping[str, Any]) -> ScorerParams:
        """Check params against ``Params``.

        Raises:
            AutoScorerError: ``BAD_PARAMS``, naming every wrong param and the nearest known name.
        """
        try:
            return self.Params.model_validate(dict(params))
        except ValidationError as error:
            lines = []
            for item in error.errors(include_url=False, include_context=False):
                where = ".".join(str(part) for part in item["loc"]) or "params"
                hint = suggest(where, self.Params.model_fields) if item["type"] == "extra_forbidden" else ""
                came = "" if item["type"] == "missing" else f", got {item['input']!r}"
                lines.append(f"{where}: {item['msg']}{came}{hint}")
            raise AutoScorerError(
                ErrorCode.BAD_PARAMS,
                f"Params of {self.name or type(self).__name__}: " + "; ".join(lines),
                details={"params": sorted({line.split(":")[0] for line in lines})},
            ) from None

    def validate(self, workspace: Path, params: dict[str, Any]) -> None:
        """Check that ``score`` could work: params valid, ground truth (and predictions, if there) readable.

        Raises:
            AutoScorerError: The first problem, or all of them as ``InvalidWorkspace``.
        """
        self.parse_params(params)

    @abstractmethod
    def score(self, workspace: Path, params: dict[str, Any]) -> Result:
        """Score ``workspace`` and return the Result (metrics, notes, artifacts; provenance is added).

        Raises:
            AutoScorerError: The submission can't be scored.
        """
