"""The trees of ``shortcut``: grown by scikit-learn, kept as plain arrays, walked by numpy.

A node sends ``x <= threshold`` to the left. All trees of a model lie in arrays (tree, node), padded
with leaves, so that they are saved with every other weight and nothing is ever unpickled.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.core.errors import ConfigError, ExportError
from pipeline.models._backbone import Backbone
from pipeline.statistics.leaks import LEAK_FEATURES, leak_features

if TYPE_CHECKING:
    from pipeline.models.shortcut import Config

Floats = NDArray[np.float64]
#: Buffers with one row per tree, and their types.
_ARRAYS = {
    "score": torch.int64,
    "feature": torch.int64,
    "threshold": torch.float64,
    "left": torch.int64,
    "right": torch.int64,
    "value": torch.float64,
}


@dataclass(frozen=True)
class Tree:
    """One regression tree; a leaf is its own left and right child."""

    score: int
    feature: NDArray[np.int64]
    threshold: Floats
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: Floats


class Shortcut(Backbone):
    """Image statistics and the sums of their trees: ``config.scores`` raw scores per image."""

    is_fitted = True

    def __init__(self, config: "Config", in_channels: int) -> None:
        super().__init__()
        self.config = config
        self.n_features = config.scores
        self.n_statistics = in_channels * len(LEAK_FEATURES)
        self.register_buffer("baseline", torch.zeros(config.scores, dtype=torch.float64))
        for name, dtype in _ARRAYS.items():
            shape = (0,) if name == "score" else (0, 1)
            self.register_buffer(name, torch.zeros(shape, dtype=dtype))

    def forward(self, image: Tensor) -> Tensor:
        """Return raw scores (B, n_features); zero where nothing was fitted."""
        return self.features_of(self.describe(image)).to(image.device)

    def plain(self) -> nn.Module:
        """Refuse: statistics and trees in numpy are no layers.

        Raises
        ------
        ExportError
        """
        raise ExportError(
            "model 'shortcut' is made of image statistics and trees, which are no layers that can "
            "be exported; it is a floor to compare with, score with its run folder"
        )

    def describe(self, image: Tensor) -> Tensor:
        """Statistics of every channel (B, 41 C)."""
        pixels = image.detach().float().cpu().numpy()
        n_images, n_channels = pixels.shape[:2]
        flat = pixels.reshape(n_images * n_channels, *pixels.shape[2:])
        return torch.from_numpy(leak_features(flat).reshape(n_images, self.n_statistics))

    def features_of(self, description: Tensor) -> Tensor:
        """Baseline and the sum over trees (B, n_features) of statistics (B, D)."""
        statistics = description.numpy()
        arrays = {name: self.get_buffer(name).cpu().numpy() for name in _ARRAYS}
        total = np.tile(self.get_buffer("baseline").cpu().numpy(), (len(statistics), 1))
        rows = np.arange(len(statistics))
        for t, score in enumerate(arrays["score"]):
            feature, threshold = arrays["feature"][t], arrays["threshold"][t]
            left, right = arrays["left"][t], arrays["right"][t]
            node = np.zeros(len(statistics), np.int64)
            while True:
                goes_left = statistics[rows, feature[node]] <= threshold[node]
                after = np.where(goes_left, left[node], right[node])
                if np.array_equal(after, node):
                    break
                node = after
            total[:, score] += arrays["value"][t][node]
        return torch.from_numpy(total).float()

    def fit(self, description: Tensor, label: Tensor, target: Tensor) -> None:
        """Grow trees for each class, if there are two or more, and for each target.

        Raises
        ------
        ConfigError
            If there are more classes and targets than scores.
        """
        statistics, classes = description.double().numpy(), label.numpy()
        n_classes = int(classes.max()) + 1
        if n_classes + target.shape[1] > self.n_features:
            raise ConfigError(
                f"model 'shortcut' has scores: {self.n_features}, too few for {n_classes} classes "
                f"and {target.shape[1]} targets"
            )
        trees: list[Tree] = []
        if len(np.unique(classes)) > 1:
            trees += self._classify(statistics, classes)
        for i, column in enumerate(target.double().numpy().T):
            trees += self._regress(statistics, column, n_classes + i)
        self._keep(trees)

    def _options(self) -> dict[str, Any]:  # Any: arguments of scikit-learn
        return {
            "max_iter": self.config.rounds,
            "max_depth": self.config.depth,
            "learning_rate": self.config.learning_rate,
            "min_samples_leaf": self.config.leaf,
            "early_stopping": False,
            "random_state": 0,
        }

    def _classify(self, statistics: Floats, label: NDArray[np.int64]) -> list[Tree]:
        from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]

        model = HistGradientBoostingClassifier(**self._options()).fit(statistics, label)
        classes: list[int] = model.classes_.tolist()
        # with two classes there is one score, that of the second
        return self._taken(model, classes[1:] if len(classes) == 2 else classes)

    def _regress(self, statistics: Floats, target: Floats, column: int) -> list[Tree]:
        from sklearn.ensemble import HistGradientBoostingRegressor

        known = np.isfinite(target)
        model = HistGradientBoostingRegressor(**self._options())
        return self._taken(model.fit(statistics[known], target[known]), [column])

    def _taken(self, model: Any, columns: list[int]) -> list[Tree]:  # Any: of scikit-learn
        """Trees of a fitted model; its baseline is written to the columns."""
        baseline = torch.from_numpy(np.ravel(model._baseline_prediction))
        self.get_buffer("baseline")[columns] = baseline.to(self.get_buffer("baseline"))
        return [
            _tree(predictor.nodes, column)
            for one_round in model._predictors
            for column, predictor in zip(columns, one_round, strict=True)
        ]

    def _keep(self, trees: list[Tree]) -> None:
        width = max((len(tree.value) for tree in trees), default=1)
        device = self.get_buffer("baseline").device
        for name, dtype in _ARRAYS.items():
            rows = [np.asarray(getattr(tree, name)) for tree in trees]
            if name != "score":
                rows = [np.pad(row, (0, width - len(row))) for row in rows]
            setattr(self, name, torch.from_numpy(np.array(rows)).to(device, dtype))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take on the stored number of trees, then load as every module does."""
        for name, dtype in _ARRAYS.items():
            stored = state_dict.get(prefix + name)
            if isinstance(stored, Tensor):
                device = getattr(self, name).device
                setattr(self, name, torch.zeros(stored.shape, dtype=dtype, device=device))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _tree(nodes: NDArray[np.void], score: int) -> Tree:
    own = np.arange(len(nodes))
    leaf = nodes["is_leaf"].astype(bool)
    return Tree(
        score=score,
        feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64),
        threshold=np.where(leaf, 0.0, nodes["num_threshold"]),
        left=np.where(leaf, own, nodes["left"]).astype(np.int64),
        right=np.where(leaf, own, nodes["right"]).astype(np.int64),
        value=np.where(leaf, nodes["value"], 0.0),
    )
