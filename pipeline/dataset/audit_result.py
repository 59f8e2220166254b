"""What an audit found: checks with a state each, the numbers behind them, and one verdict."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

PASSED: Final = "passed"
FAILED: Final = "failed"
NOT_JUDGED: Final = "not judged"
#: Checks that judge a preset's design rather than its images on disk.
BY_DESIGN = ("leaks", "nuisances", "distributions", "ceilings", "sham")
type State = Literal["passed", "failed", "not judged"]


@dataclass(frozen=True)
class Check:
    """One question and its answer; ``detail`` names what is wrong, or what was looked at."""

    name: str
    state: State
    detail: str


@dataclass(frozen=True)
class PairLeak:
    """How well plain statistics tell two classes apart.

    Attributes
    ----------
    first, second : str
        Class names.
    features : str
        ``"A"`` or ``"A+B"``.
    n_per_class : int
    logistic, boosting : float
        Cross-validated AUC of the two classifiers.
    standard_error : float
        Of an AUC of 1/2.
    gated : bool
        Whether the gate applies to this pair and set.
    leaks : bool
        Whether it is gated, and above the gate by more than chance.
    """

    first: str
    second: str
    features: str
    n_per_class: int
    logistic: float
    boosting: float
    standard_error: float
    gated: bool
    leaks: bool

    @property
    def auc(self) -> float:
        """AUC of the better classifier."""
        return max(self.logistic, self.boosting)

    @property
    def pair(self) -> str:
        """Both classes in one word."""
        return f"{self.first}–{self.second}"


@dataclass(frozen=True)
class Ceilings:
    """AUC that no classifier can exceed.

    Attributes
    ----------
    pairs : mapping of two class names to AUC
    per_class : mapping of class name to AUC
        Against all others together.
    problem : str
        Why there are none; "" otherwise.
    n_lenses : int
        Smallest number of lenses behind a pair.
    """

    pairs: Mapping[tuple[str, str], float]
    per_class: Mapping[str, float]
    problem: str = ""
    n_lenses: int = 0


@dataclass(frozen=True)
class Histogram:
    """Values of one statistic by class: ``counts`` (K, B) over ``edges`` (B + 1,)."""

    name: str
    auc: float
    pair: str
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """What a page of plots needs beyond the numbers.

    Attributes
    ----------
    mean_images : array, shape (K, H, W)
        Mean of each class as the network sees it, first channel.
    mean_error : array, shape (H, W)
        Standard error of the difference of two such means.
    histograms : tuple of Histogram
        Of the statistics that tell most, the worst first.
    single_auc : mapping of pair to (statistic, AUC, whether it leaks), the largest first
    """

    mean_images: NDArray[np.float64]
    mean_error: NDArray[np.float64]
    histograms: tuple[Histogram, ...]
    single_auc: Mapping[str, tuple[tuple[str, float, bool], ...]]


@dataclass(frozen=True)
class Audit:
    """The verdict on a dataset.

    Attributes
    ----------
    path : str
    dataset_sha256 : str
        "" for an unfinished dataset.
    images : int
    class_names : tuple of str
    short : bool
        Whether this was the short form that runs after ``simulate``.
    complete : bool
    damaged_shards : tuple of int
    engine, reference_engine : str
        What made the images, and the opinion they were compared with; "" if none was asked.
    resimulated : int
        Images simulated again.
    engine_deviation_max, engine_deviation_rms : float or None
        Largest deviation and largest root-mean-square of one image, relative to its peak.
    leak_auc_max : float or None
        Largest gated AUC of a classifier; None where it was not measured.
    leaks : mapping of str to float
        Statistic that gives a class away, and its AUC in the pair where it tells most.
    leak_pairs : tuple of PairLeak
    ceiling_auc : mapping of str to float
        Class, and the AUC against all others that no classifier can exceed.
    ceiling_pairs : mapping of str to float
        The same for pairs of classes.
    checks : tuple of Check
    seconds : float
    evidence : Evidence or None
        For the page; not part of the JSON.
    """

    path: str
    dataset_sha256: str
    images: int
    class_names: tuple[str, ...]
    short: bool
    complete: bool
    damaged_shards: tuple[int, ...]
    engine: str
    reference_engine: str
    resimulated: int
    engine_deviation_max: float | None
    engine_deviation_rms: float | None
    leak_auc_max: float | None
    leaks: Mapping[str, float]
    leak_pairs: tuple[PairLeak, ...]
    ceiling_auc: Mapping[str, float]
    ceiling_pairs: Mapping[str, float]
    checks: tuple[Check, ...]
    seconds: float
    evidence: Evidence | None = None

    @property
    def passed(self) -> bool:
        """Whether no check failed. A check that could not be judged is no failure, and is named."""
        return not self.failed

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(c for c in self.checks if c.state == FAILED)

    @property
    def not_judged(self) -> tuple[Check, ...]:
        """The checks that could not be judged."""
        return tuple(c for c in self.checks if c.state == NOT_JUDGED)

    @property
    def is_broken(self) -> bool:
        """Whether it failed by more than a preset's own design, such as a legacy one's leaks."""
        return any(c.name not in BY_DESIGN for c in self.failed)

    @property
    def verdict(self) -> str:
        """One sentence."""
        open_questions = ", ".join(c.name for c in self.not_judged)
        but = f"; not judged: {open_questions}" if open_questions else ""
        if self.failed:
            return f"FAILED: {', '.join(c.name for c in self.failed)}{but}"
        return f"passed{but}"

    def to_json(self) -> dict[str, Any]:
        """Every field but the evidence, with ``passed``, ``verdict`` and ``not_judged``."""
        data = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "evidence"
        }
        data["leak_pairs"] = [{**dataclasses.asdict(p), "auc": p.auc} for p in self.leak_pairs]
        data["checks"] = [dataclasses.asdict(c) for c in self.checks]
        data |= {"leaks": dict(self.leaks), "ceiling_auc": dict(self.ceiling_auc)}
        data["ceiling_pairs"] = dict(self.ceiling_pairs)
        data["not_judged"] = [c.name for c in self.not_judged]
        return {**data, "verdict": self.verdict, "passed": self.passed}

    def short_text(self) -> str:
        """The verdict and what did not pass, for the end of another command's answer."""
        wrong = [c for c in self.checks if c.state != PASSED]
        return "\n".join(
            [f"audit {self.verdict}", *(f"  {c.name}: {c.detail}" for c in wrong)]
            + (["  deeplense audit says more"] if wrong else [])
        )

    def text(self) -> str:
        """The verdict and every check, one line each."""
        lines = [f"{self.path}: {self.verdict}"]
        width = max((len(c.name) for c in self.checks), default=0)
        mark = {PASSED: "ok", FAILED: "FAILED", NOT_JUDGED: "not judged"}
        lines += [f"  {c.name:<{width}}  {mark[c.state]}: {c.detail}" for c in self.checks]
        return "\n".join(lines)
