"""MLflow: runs in the store that its own settings name, a file or a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sooner.watch._sink import Sink, flat


class Mlflow(Sink):
    """Logs a run of MLflow, to where ``MLFLOW_TRACKING_URI`` points; default ``mlflow.db`` in this directory.

    Args:
        place: the experiment, default ``sooner``.
    """

    def open(self, about: Mapping[str, Any]) -> None:
        """Begin a run; another one that is active in this process is left alone."""
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient()
        name = self.place or "sooner"
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        self._run: str = self._client.create_run(experiment, run_name=str(about.get("name", "run"))).info.run_id
        for key, value in flat(about).items():
            self._client.log_param(self._run, key, str(value)[:6000])

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write numbers of a step."""
        for name, value in numbers.items():
            self._client.log_metric(self._run, name[:250], value, step=step)

    def note(self, name: str, text: str) -> None:
        """Write a text as a tag."""
        self._client.set_tag(self._run, name[:250], text[:5000])

    def close(self, outcome: Mapping[str, Any]) -> None:
        """Write how it ended and end the run."""
        for key, value in flat(outcome).items():
            self.note(f"outcome/{key}", str(value))
        self._client.set_terminated(self._run, "FAILED" if outcome.get("error") else "FINISHED")
