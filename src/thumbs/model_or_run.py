"""What a verb is to look at: a run, or a model folder or hub id, as the user names it.

In: a name. Out: the configuration it was trained with, what to load of it, its run if it is one.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from thumbs.config import Config, ModelConfig, load_config
from thumbs.errors import ConfigError, RunError
from thumbs.feedback.file import read_feedback
from thumbs.feedback.record import Feedback
from thumbs.models.load import trained_model, untrained_model
from thumbs.prepare import is_heldout
from thumbs.runs.rundir import RunDir, open_run, read_described


@dataclass(frozen=True)
class ModelOrRun:
    """config: as trained, or the defaults for a model; RUN/model brings its own chat template.

    today: the date that templates print, that of the run.
    """

    name: str
    config: Config
    today: date
    run: RunDir | None = None
    feedback: Path | None = None  # what the run was trained on

    @property
    def policy(self) -> ModelConfig:
        """The model to look at: what the run trained, or the one named."""
        return trained_model(self.config.model, str(self.run.model) if self.run else self.name)

    def reference(self, named: str | None) -> ModelConfig:
        """What the policy was trained from.

        Raises:
            ConfigError: nothing says so.
        """
        base = named or self.config.model.reference
        if base is None and self.run is None:
            raise ConfigError(self._needs_more())
        return (
            trained_model(self.config.model, base) if base else untrained_model(self.config.model)
        )

    def votes(self, named: Path | None) -> list[Feedback]:
        """The records of a file; those that the run has held out where it is the run's own.

        Raises:
            ThumbsError: there is no file, or no record.
        """
        path = named or self.feedback
        if path is None:
            raise ConfigError(self._needs_more())
        records = list(read_feedback(path))
        if path != self.feedback:
            return records
        records = [record for record in records if is_heldout(record, self.config)]
        if not records:
            raise RunError(
                f"{self.name}: holds no feedback out, so there is nothing to evaluate. Name a file "
                "of other votes with --feedback, or train with data.heldout_fraction above 0 and "
                "more conversations."
            )
        return records

    def _needs_more(self) -> str:
        found = "is a model, not a run" if Path(self.name).is_dir() else "is no folder here"
        return (
            f"{self.name}: {found}; give a run folder, or for a model --reference (what it was "
            "trained from) and --feedback"
        )


def model_or_run(name: str) -> ModelOrRun:
    """What `name` is.

    Raises:
        RunError: it is neither a run nor a model.
    """
    if not (Path(name) / "config.yaml").is_file():
        _require_model(name)
        return ModelOrRun(name, load_config(None, model=name), datetime.now(UTC).date())
    run = open_run(Path(name))
    config = run_config(run)
    described = read_described(run)
    own = config.data.model_copy(update={"chat_template": None})  # RUN/model has it
    config = config.model_copy(update={"data": own})
    today = date.fromisoformat(described["today"])
    return ModelOrRun(name, config, today, run, Path(described["feedback"]["path"]))


def run_config(run: RunDir) -> Config:
    """The settings of a run.

    Raises:
        ConfigError: a setting is wrong.
        RunError: they name no model, so something has happened to the file.
    """
    config = load_config(run.config)
    if not config.model.name_or_path:
        raise RunError(
            f"{run.config}: names no model (model.name_or_path), which that of a run does. Restore "
            "the file from a copy, or start a new run."
        )
    return config


def _require_model(name: str) -> None:
    folder = Path(name)
    kinds = ("config.json", "adapter_config.json")
    if folder.is_dir() and not any((folder / file).is_file() for file in kinds):
        raise RunError(
            f"{name}: is neither a run (it holds no config.yaml) nor a model (no config.json). "
            "Give a folder that thumbs train --out made, or a model folder or hub id."
        )
    if folder.is_file() or (name.startswith((".", "/", "~")) and not folder.exists()):
        found = "is a file" if folder.is_file() else "no such folder"
        raise RunError(f"{name}: {found}. Give a run, or a model folder or hub id.")
