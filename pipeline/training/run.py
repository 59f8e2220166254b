"""Train a network on a dataset, or go on with a run that was interrupted."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.checkpoint.load import network_outputs
from pipeline.checkpoint.network import Network, build_network
from pipeline.checkpoint.novelty import fit_novelty
from pipeline.checkpoint.save import save_run
from pipeline.checkpoint.spec import (
    CONFIG_FILE,
    DATASET_FILE,
    CheckpointSpec,
    finite,
)
from pipeline.core.config import StrictModel
from pipeline.core.errors import ConfigError, TrainingError
from pipeline.core.logs import get_logger
from pipeline.core.provenance import package_versions
from pipeline.dataset.online import OnlineData
from pipeline.dataset.open import open_data, restricted
from pipeline.dataset.preprocess import Preprocess, first_planes, fit_preprocess
from pipeline.models.base import MODELS
from pipeline.tasks.base import (
    OTHER_DOMAIN,
    TASKS,
    Floats,
    NeedsBatch,
    NeedsFeatures,
    trained_classes,
)
from pipeline.training.accelerator import Accelerator, use_available_cores
from pipeline.training.config import TrainingConfig
from pipeline.training.domain import Domain, Paired, training_domain
from pipeline.training.folder import Plain, begin_or_resume, has_sound_checkpoint
from pipeline.training.journal import Journal
from pipeline.training.loggers import require_loggers
from pipeline.training.loop import ADVICE, Parts, Watch, train
from pipeline.training.objective import make_objective
from pipeline.training.optimiser import averaged, make_optimiser
from pipeline.training.outputs import SplitOutputs
from pipeline.training.processes import Group, launched_group, run_in_processes
from pipeline.training.sources import make_source
from pipeline.training.state import (
    Identity,
    Learner,
    Position,
    read_state,
    restore,
    save_state,
)
from pipeline.training.targets import Data, fit_targets

logger = get_logger("training")

#: Training images behind the novelty reference: as many as the network was shown, within these.
REFERENCE_LEAST, REFERENCE_IMAGES = 128, 1024
#: Memory they may take, as float32 values.
REFERENCE_VALUES = 2**26
#: Seconds between two saves of the resume state inside an epoch.
SAVE_EVERY = 30.0


@dataclass(frozen=True)
class TrainSummary:
    """What a training run came to.

    ``seconds`` is training time over all sessions; ``metric`` names ``best_metric``, which is of
    the validation split; ``resumed`` and ``already_done`` say what was found in the run folder.
    """

    run: Path
    seconds: float
    epochs: int
    best_metric: float
    metric: str
    stopped: str
    resumed: bool
    already_done: bool


def run_training(
    config: TrainingConfig,
    data: Path | str,
    out: Path | str,
    device: str = "auto",
    *,
    devices: int = 1,
    save_every: float = SAVE_EVERY,
    watch: Watch | None = None,
) -> TrainSummary:
    """Train, or go on, or say that all is done.

    Parameters
    ----------
    config : TrainingConfig
    data : Path or str
        A complete dataset; or a preset, whose images are simulated while training.
    out : Path
        Run folder; it may hold an interrupted or finished run of the same configuration and data.
    device : str
        ``auto``, ``cpu`` or ``cuda``; where, not what: it is not part of the configuration.
    devices : int
        Processes that share every batch: one GPU each, or the cores of a CPU. ``torchrun`` may
        start them instead.
    save_every : float
        Seconds of training that a kill may cost.
    watch : callable, optional
        Called after every epoch; with several processes it must survive pickling.

    Raises
    ------
    CheckpointError
        If the folder holds a run of another configuration or dataset, or something else.
    ConfigError
        If the model does not take images of this size, or the task does not fit the data.
    TrainingError
        If the loss stops being finite, or no epoch gave a usable metric.
    """
    require_loggers(config.loggers)
    arguments = (config, data, Path(out), device, save_every, watch)
    group = launched_group()
    n_processes = devices if group.size == 1 else group.size
    if devices < 1:
        raise ConfigError(f"training takes at least one device, found {devices}")
    if config.batch_size % n_processes:
        raise ConfigError(
            f"batch_size {config.batch_size} cannot be shared by {n_processes} processes: take a "
            "multiple"
        )
    if n_processes == group.size:
        return _train(group, *arguments)
    return run_in_processes(n_processes, _train, *arguments)


def _train(
    group: Group,
    config: TrainingConfig,
    data: Path | str,
    out: Path,
    device: str,
    save_every: float,
    watch: Watch | None,
) -> TrainSummary:
    """Train in this process, one of a group."""
    dataset = restricted(open_data(data, config.online), trained_classes(config.task))
    accelerator = Accelerator(device, config.precision, compiled=config.compile, group=group)
    domain = training_domain(config, dataset)
    identity = Identity(config.sha256, dataset.sha256, domain.sha256 if domain else "")
    state = _begin(accelerator, config, dataset, identity, out)
    if state is not None and state["position"]["finished"]:
        position = Position(**state["position"])
        logger.info("%s: already trained (%s); nothing to do", out, position.finished)
        return _summary(out, position, resumed=False, already_done=True)
    use_available_cores(group.size)
    session = Session(config, dataset, domain, identity, out, accelerator)
    position = session.start(state)
    try:
        with Journal(config, out, position.epoch, position.step) as journal:
            train(
                session.parts(journal),
                position,
                keep=session.keep,
                save=session.save,
                save_every=save_every,
                watch=watch,
            )
    finally:
        if isinstance(dataset, OnlineData):
            dataset.close()
    logger.info("%s: %s", out, position.finished)
    return _summary(out, position, resumed=state is not None, already_done=False)


def _begin(
    accelerator: Accelerator, config: TrainingConfig, dataset: Data, identity: Identity, out: Path
) -> Plain | None:
    """Make or read the run folder; the first process makes it, the others follow."""
    state = None
    if accelerator.is_first:
        contents: dict[str, StrictModel] = {CONFIG_FILE: config}
        if dataset.simulation is not None:
            contents[DATASET_FILE] = dataset.simulation
        state = begin_or_resume(out, identity, contents)
    has_state = accelerator.agree(state is not None)
    return read_state(out) if has_state and state is None else state


def _summary(out: Path, position: Position, *, resumed: bool, already_done: bool) -> TrainSummary:
    if position.best is None:
        raise TrainingError(
            f"{out}: no epoch gave a finite {position.metric} on the validation split; it needs "
            "images of every class"
        )
    return TrainSummary(
        run=out,
        seconds=position.elapsed,
        epochs=position.epoch,
        best_metric=position.best,
        metric=position.metric,
        stopped=position.finished,
        resumed=resumed,
        already_done=already_done,
    )


class Session:
    """Everything that one process needs to train one run."""

    def __init__(
        self,
        config: TrainingConfig,
        dataset: Data,
        domain: Domain | None,
        identity: Identity,
        out: Path,
        accelerator: Accelerator,
    ) -> None:
        self.config = config
        self.dataset = dataset
        self.out = out
        self.accelerator = accelerator
        self.identity = identity
        self.preprocess = fit_preprocess(dataset, config.preprocess)
        self.targets = fit_targets(config.task, dataset)
        self.network, self.task = build_network(
            config.model,
            config.task,
            in_channels=self.preprocess.out_channels,
            image_size=dataset.image_shape[1],
            class_names=dataset.class_names,
            targets=self.targets,
            constant_channels=self.preprocess.constant_channels,
            seed=config.seed,
        )
        labels = dataset.first_labels().astype(np.int64)
        truths = [dataset.first_truth(target.name) for target in self.targets]
        self.task.prepare(labels, np.column_stack(truths) if truths else np.empty((len(labels), 0)))
        if self.network.backbone.is_fitted:
            self._require_fit(accelerator)
        objective = make_objective(
            self.network,
            self.task,
            config.auxiliary,
            image_size=dataset.image_shape[1],
            in_channels=self.preprocess.out_channels,
            n_bands=len(dataset.bands),
            seed=config.seed,
        )
        optimiser = make_optimiser(objective, config.optimiser)
        accelerator.setup(objective, optimiser)
        self.learner = Learner(
            network=self.network,
            optimiser=optimiser,
            readout=objective.readout,
            helper=objective.helper,
            average=None if config.ema is None else averaged(self.network, config.ema),
            precision=accelerator.fabric.strategy.precision,
        )
        names = tuple(target.name for target in self.targets)
        self.train, self.val = (
            make_source(config, dataset, self.preprocess, split, accelerator.group, names)
            for split in ("train", "val")
        )
        if domain is not None:
            seen = domain.with_planes(self.preprocess.smooth_fit)
            self.train = Paired(self.train, seen, self.preprocess, config, accelerator.group)
        self._reference = _reference_images(dataset, self.preprocess)

    def _require_fit(self, accelerator: Accelerator) -> None:
        """Refuse what a backbone that is fitted at once cannot do."""
        name = self.config.model.kind
        if accelerator.group.size > 1:
            raise ConfigError(f"model {name!r} is fitted by one process: --devices 1")
        if isinstance(self.task, NeedsBatch) or self.network.sees_image:
            raise ConfigError(
                f"task {self.config.task.kind!r} learns by gradients, which model {name!r} has "
                "none of; take another model"
            )

    def start(self, state: Plain | None) -> Position:
        """Position to train from: that of a saved state, or the beginning, saved at once."""
        if state is None:
            position = Position(metric=self.task.monitor)
            if self.accelerator.is_first:
                self.save(position)
            return position
        position = restore(state, self.learner)
        if not has_sound_checkpoint(self.out):
            position.best = None
        logger.info("going on at epoch %d, step %d", position.epoch + 1, position.step)
        return position

    def parts(self, journal: Journal) -> Parts:
        """Arguments of the loop."""
        return Parts(
            config=self.config,
            accelerator=self.accelerator,
            network=self.network,
            task=self.task,
            learner=self.learner,
            train=self.train,
            val=self.val,
            journal=journal,
            targets=self.targets,
            settle=self.settle,
        )

    def settle(self, network: Network) -> None:
        """Let a task measure what it keeps of the features of training images."""
        if isinstance(self.task, NeedsFeatures):
            was_training = network.training
            features = self._describe_train(network.eval())[:, : network.backbone.n_features]
            self.task.settle(network.head, torch.from_numpy(features))
            network.train(was_training)

    def save(self, position: Position) -> None:
        """Write the resume state, unless the weights are lost."""
        if not all(torch.isfinite(weight).all() for weight in self.network.parameters()):
            raise TrainingError(f"step {position.step} left weights that are not finite; {ADVICE}")
        save_state(self.out, self.identity, position, self.learner)

    def keep(
        self,
        network: Network,
        position: Position,
        found: SplitOutputs,
        metrics: dict[str, float],
    ) -> None:
        """Write ``network`` as the run's checkpoint, calibrated on the validation outputs."""
        spec = CheckpointSpec(
            task=self.config.task,
            model=self.config.model,
            in_channels=self.preprocess.out_channels,
            image_size=self.dataset.image_shape[1],
            class_names=self.dataset.class_names,
            targets=self.targets,
            preprocess=self.preprocess,
            calibration=self.task.calibrate(found.outputs),
            n_parameters=self.network.n_parameters,
            n_train=self._n_seen(position),
            n_val=self.val.n_images,
            seed=self.config.seed,
            epoch=position.best_epoch,
            step=position.step,
            metrics=finite(metrics),
            dataset_sha256=self.dataset.sha256,
            config_sha256=self.config.sha256,
            weights_sha256="",
            reference_sha256="",
            simulated_on_the_fly=isinstance(self.dataset, OnlineData),
            versions=package_versions() | self._plugins(),
        )
        shown = self._describe_train(network, max(REFERENCE_LEAST, self._n_shown(position)))
        novelty = fit_novelty(shown, found.description, network.backbone.n_features)
        save_run(self.out, spec, network.state_dict(), novelty)

    def _n_seen(self, position: Position) -> int:
        """Different images that the network was trained on."""
        shown = max(self.config.batch_size, self._n_shown(position))
        return shown if isinstance(self.dataset, OnlineData) else self.train.n_images

    def _n_shown(self, position: Position) -> int:
        """Images that the network was trained on, counted as often as they were shown."""
        if self.network.backbone.is_fitted:
            return self.train.n_images
        n_steps = position.epoch * self.train.n_steps + position.epoch_step
        return n_steps * self.config.batch_size

    def _plugins(self) -> dict[str, str]:
        """Hashes of the user's own files behind model and task, and of a second domain's images."""
        model, task = self.config.model.kind, self.config.task.kind
        other = self.identity.domain_sha256
        domain = {OTHER_DOMAIN: other} if other else {}
        return MODELS.fingerprint(model) | TASKS.fingerprint(task) | domain

    def _describe_train(self, network: Network, n: int | None = None) -> Floats:
        """Descriptions of the first ``n`` reference images, by a network in evaluation mode."""
        size = self.config.batch_size
        return np.concatenate(
            [
                network_outputs(network, part, self.accelerator.device)[1]
                for part in torch.split(self._reference[:n], size)
            ]
        )


def _reference_images(dataset: Data, preprocess: Preprocess) -> torch.Tensor:
    """The first training images, prepared."""
    n_values = preprocess.out_channels * dataset.image_shape[1] ** 2
    n = min(REFERENCE_IMAGES, max(1, REFERENCE_VALUES // n_values))
    return torch.from_numpy(preprocess.apply(first_planes(dataset, n, preprocess.smooth_fit)))
