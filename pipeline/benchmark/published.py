"""Figures that others report and floors that no estimator beats, to stand beside a comparison."""

from typing import Literal

from pipeline.core.config import StrictModel, load_config
from pipeline.core.resources import sim_params


class Figure(StrictModel):
    """One network of DeepLense on one of its datasets."""

    model: str
    dataset: str
    task: Literal["classification", "regression", "anomaly", "adaptation"]
    source: str
    accuracy: float | None = None
    auc: dict[str, float] | None = None
    mae_dex: float | None = None

    @property
    def macro_auc(self) -> float | None:
        """Mean of the AUC of the classes."""
        return sum(self.auc.values()) / len(self.auc) if self.auc else None


class Floor(StrictModel):
    """Smallest mean absolute error on one preset."""

    dataset: str
    mae_dex: float
    error: float
    source: str
    note: str = ""


class Published(StrictModel):
    """All of them, with the words of their sources."""

    figures: tuple[Figure, ...]
    floors: tuple[Floor, ...]
    sources: dict[str, str]


def published() -> Published:
    """Read the shipped figures."""
    folder = sim_params() / "benchmark"
    return load_config(folder / "published.yaml", Published, presets=folder)
