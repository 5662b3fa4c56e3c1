"""`tracking`: where metrics go beside the manifests. No part of any key: a tracker changes nothing that is made."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from dmtl_cli.config.secrets import has_credentials
from dmtl_cli.config.section import Folder, Section


class Tracking(Section):
    mlflow: Annotated[str, Field(min_length=1)] | None = None
    """URI of an MLflow server, or a folder (dmtl[mlflow]): a run for each published stage and day, with its config,
    metrics, losses by step, and where an export is"""
    experiment: Annotated[str, Field(min_length=1)] = "dmtl"
    """the MLflow experiment of these runs"""
    artifacts: bool = False
    """true: MLflow gets the files of every export too, not only their path"""
    tensorboard: Folder | None = None
    """folder of TensorBoard's event files (dmtl[tensorboard]): by_day/STAGE, and training/ with losses by step"""

    @field_validator("mlflow")
    @classmethod
    def _no_credentials(cls, uri: str | None) -> str | None:
        if uri is not None and has_credentials(uri):
            raise ValueError("credentials belong in the environment (MLFLOW_TRACKING_USERNAME, _PASSWORD or _TOKEN)")
        return uri

    @model_validator(mode="after")
    def _options_have_effect(self) -> Tracking:
        for name in sorted({"experiment", "artifacts"} & self.model_fields_set):
            if self.mlflow is None:
                raise ValueError(f"{name} has no effect without mlflow")
        return self
