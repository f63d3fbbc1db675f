"""A phase of an EvalAI challenge as a benchmark that the challenge's own evaluation script scores."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import AutoScorerError, ErrorCode, Stage
from ..programs.columns import Column
from ..programs.digests import PROGRAM, REFERENCE
from .evalai_config import HOSTS, PUBLIC, Challenge, ChallengePhase, PhaseSplit, parse_challenge
from .folder import DATA, Imported, ImportReport, finish, new_folder
from .numbers import limit, open_phases
from .source import Bundle, open_bundle
from .yaml_file import read_yaml

__all__ = ["import_evalai"]

_CONFIGURATIONS = ("challenge_config.yaml", "challenge_config.yml")
# In the scoring program: the challenge's package, and what calls it.
_PACKAGE, _CALLER = "evaluation_script", "autoscorer_evaluate.py"
_INSTALLS = re.compile(rb"\bpip\b.{0,40}\binstall\b|\binstall\(\s*[\"']", re.DOTALL)


def import_evalai(
    source: Path | str,
    out: Path | str,
    *,
    phase: str | None = None,
    image: str | None = None,
    predictions_as: str | None = None,
) -> ImportReport:
    """Make a benchmark of a challenge's phase.

    Args:
        source: The folder or archive with challenge_config.yaml.
        out: The benchmark's folder; made, and not there before.
        phase: Codename of the phase, where there are several: each is a benchmark of its own.
        image: Image that the evaluation script is run in.
        predictions_as: Name under which the script finds a submission's only file.

    Raises:
        AutoScorerError: ``MISSING_FILE``, ``BAD_FORMAT``, ``INVALID_REQUEST``, ``PAYLOAD_TOO_LARGE``,
            ``GROUND_TRUTH_EXPOSED``; nothing is left then.
    """
    target = Path(os.path.abspath(out))
    with new_folder(target) as folder, open_bundle(Path(source), _CONFIGURATIONS, near=folder) as (bundle, file):
        challenge = parse_challenge(read_yaml(file))
        chosen = _phase(challenge, phase)
        inside = folder / "input"
        notes = _place_script(bundle, challenge.script, inside / PROGRAM)
        bundle.place(chosen.annotations, inside / REFERENCE, what="test_annotation_file", unpack=False)
        (inside / DATA).mkdir()
        (annotations,) = (entry.name for entry in (inside / REFERENCE).iterdir())
        command = (
            "python3",
            f"/app/program/{_CALLER}",
            "/app/output/scores.json",
            f"/app/input/ref/{annotations}",
            "/app/input/res/{submission}",
            chosen.codename,
            *(split.codename for split in chosen.splits),
        )
        found = _imported(challenge, chosen, command, notes, image=image, predictions_as=predictions_as)
        return finish(folder, target, found)


def _phase(challenge: Challenge, wanted: str | None) -> ChallengePhase:
    codenames = ", ".join(phase.codename for phase in challenge.phases)
    if wanted is None and len(challenge.phases) > 1:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"The challenge has {len(challenge.phases)} phases, each with annotations of its own: {codenames}. Import "
            "each as a benchmark of its own: choose one by --phase CODENAME.",
            details={"phases": [phase.codename for phase in challenge.phases]},
        )
    for phase in challenge.phases:
        if wanted in (None, phase.codename):
            return phase
    raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"--phase: expected one of {codenames}, got {wanted!r}.")


def _place_script(bundle: Bundle, name: str, program: Path) -> list[str]:
    """Lay out the evaluation script as a package, and beside it what calls it; notes on what it needs."""
    plain = name.removesuffix(".zip")
    # Challenges in a repository have the folder, which EvalAI's own workflow packs.
    if not (bundle.root / name).exists() and (bundle.root / plain).is_dir():
        name = plain
    program.mkdir()
    package = program / _PACKAGE
    bundle.place(name, package, what="evaluation_script")
    entries = list(package.iterdir())
    if len(entries) == 1 and entries[0].is_dir():  # packed with its folder
        entries[0].rename(program / "packed")
        package.rmdir()
        (program / "packed").rename(package)
    if not any((package / each).is_file() for each in ("main.py", "__init__.py")):
        raise AutoScorerError(
            ErrorCode.MISSING_FILE,
            "evaluation_script: neither main.py nor __init__.py is in it, so there is no evaluate() to call.",
            stage=Stage.VALIDATION,
        )
    (program / _CALLER).write_bytes(Path(__file__).with_name("evalai_caller.py").read_bytes())
    return list(_needs(package))


def _needs(package: Path) -> Iterator[str]:
    if (package / "requirements.txt").is_file():
        yield "The evaluation script has a requirements.txt. Build an image that has it: nothing is installed."
    first = package / "__init__.py"
    if first.is_file() and _INSTALLS.search(first.read_bytes()):
        yield (
            "The evaluation script installs packages when it is imported, and has no network here. Build an image that "
            "has them; pip then finds them there."
        )


def _imported(
    challenge: Challenge,
    phase: ChallengePhase,
    command: Sequence[str],
    notes: list[str],
    *,
    image: str | None,
    predictions_as: str | None,
) -> Imported:
    ranking = _ranking(phase.splits)
    columns = tuple(_columns(phase.splits, ranking))
    main = next(column for column in columns if column.key == _key(phase.splits, ranking, ranking.main))
    better = "larger" if main.higher_is_better else "smaller"
    notes.append(
        f"{main.key!r} ranks, and {better} is better, as the configuration says. Where that is wrong, set "
        "params.higher_is_better in benchmark.json."
    )
    if image is None:
        notes.append("Name an image that has what the evaluation script imports, as params.image in benchmark.json.")
    notes.append("EvalAI shows models no data. Put what models read into input/data.")
    if ranking.visibility == HOSTS:
        notes.append("Only the hosts saw the scores of this phase. Here each team sees the score of its submission.")
    if hidden := [column.key for column in columns if column.hidden]:
        notes.append(
            f"What only the hosts saw ({', '.join(hidden)}) is not in Results. Once it may be seen, set params.hidden "
            "to true in benchmark.json, and run `autoscorer rescore`."
        )
    seen = phase.leaderboard_public and ranking.visibility == PUBLIC
    spec: dict[str, Any] = {
        "phases": open_phases([(phase.name, phase.start, phase.end)], notes),
        "quota": {
            "per_day": limit(phase.per_day),
            "total": limit(phase.total),
            "at_once": limit(phase.at_once),
        },
        "visibility": "nothing" if not seen else "anonymous" if challenge.anonymous else "leaderboard",
        "leaderboard": {"choose": phase.choose}
        | ({"decimals": min(ranking.precision, 12)} if ranking.precision is not None else {}),
    }
    if challenge.description:
        spec["description"] = challenge.description[:20_000]
    given = {"image": image, "predictions_as": predictions_as}
    left_out = list(challenge.left_out)
    if phase.per_month is not None:
        left_out.append(f"max_submissions_per_month ({phase.per_month}): a quota has a day and a total")
    return Imported(
        platform="evalai",
        title=f"{challenge.title}: {phase.name}" if len(challenge.phases) > 1 else challenge.title,
        command=command,
        columns=columns,
        main=main,
        spec=spec,
        params={key: value for key, value in given.items() if value is not None},
        notes=notes,
        left_out=left_out,
    )


def _ranking(splits: Sequence[PhaseSplit]) -> PhaseSplit:
    """The split that ranks: the first of those that most people see."""
    most = max(split.visibility for split in splits)
    return next(split for split in splits if split.visibility == most)


def _columns(splits: Sequence[PhaseSplit], ranking: PhaseSplit) -> Iterator[Column]:
    for split in sorted(splits, key=lambda split: split is not ranking):
        for label in split.labels:
            yield Column(
                key=_key(splits, split, label.name),
                higher_is_better=label.higher_is_better,
                hidden=split.visibility == HOSTS and split is not ranking,
            )


def _key(splits: Sequence[PhaseSplit], split: PhaseSplit, label: str) -> str:
    """What the caller of the script calls a number: with the name of its split where there are several."""
    return label if len(splits) == 1 else f"{split.codename}/{label}"
