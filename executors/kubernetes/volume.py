"""A run's folder on a volume that AutoScorer and the model's node both see.

The pod mounts ``autoscorer-RUN/workspace`` read-only and ``autoscorer-RUN/output`` below it, by their paths on the
volume; nothing else of the volume is in it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ...core.errors import AutoScorerError
from ..base import RunLimits, Staged
from ..files import audit, remove_tree
from .errors import short, unavailable
from .names import job_name

__all__ = ["VolumeFolder"]


class VolumeFolder:
    """What one run has on the volume.

    Args:
        volume: The folder at which this process sees the volume.
        run_id: The run.
    """

    def __init__(self, volume: Path, run_id: str) -> None:
        self._volume = volume
        self.folder = volume / job_name(run_id)

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def fill(self, staged: Staged, owner: tuple[int, int]) -> None:
        """Copy the input there, and make the folder that the model writes to.

        Args:
            staged: The staged run.
            owner: uid and gid of the model.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE`` where the volume is not there, or full.
        """
        try:
            if not self._volume.is_dir():
                raise self._failed("there is no such folder")
            workspace = self.folder / "workspace"
            (workspace / "input").mkdir(parents=True)
            (workspace / "output").mkdir()  # what the model's output is mounted over
            for name, path in staged.inputs.items():
                target = workspace / "input" / name
                if path.is_dir():
                    shutil.copytree(path, target, symlinks=True)
                else:
                    shutil.copyfile(path, target, follow_symlinks=False)
            shutil.copyfile(staged.meta, workspace / "meta.json")
            for path in (self.folder, workspace, *workspace.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() else 0o644)
            self.output.mkdir()
            if os.geteuid() == 0:
                os.chown(self.output, *owner)
            self.output.chmod(0o700)
        except (OSError, shutil.Error) as error:
            raise self._failed(short(error)) from error

    def bring(self, staged: Staged, limits: RunLimits) -> None:
        """Take the output, once nothing of the model runs any more.

        Raises:
            AutoScorerError: As ``audit``; ``BACKEND_UNAVAILABLE`` where it can't be read.
        """
        try:
            # There first: what it finds is plain files that nobody changes any more.
            audit(self.output, limits)
            shutil.copytree(self.output, staged.output, symlinks=True, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise self._failed(short(error)) from error

    def remove(self) -> None:
        """Remove it; one that is not there is fine."""
        remove_tree(self.folder)

    def _failed(self, why: str) -> AutoScorerError:
        return unavailable(
            f"The volume of the runs, {self._volume} (executors.kubernetes.volume), can't be used: {why}."
        )
