"""Where the parts of a flow run: this process, or a Dask or Ray cluster."""

from typing import Any, Literal

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from pipeline.core.errors import MissingExtraError

#: What runs the parts; ``local`` needs no cluster.
type Runner = Literal["local", "dask", "ray"]


def task_runner(kind: Runner, address: str | None = None) -> TaskRunner[Any]:  # Any: its futures
    """Task runner by name.

    Parameters
    ----------
    kind : str
        ``local`` runs one part after the other in this process; ``dask`` and ``ray`` on the
        cluster at ``address``, or on a temporary one on this machine.
    address : str, optional
        Of a running scheduler: ``tcp://host:8786`` for Dask, ``ray://host:10001`` for Ray.

    Raises
    ------
    MissingExtraError
        If the runner's package is not installed.
    """
    try:
        if kind == "dask":
            from prefect_dask.task_runners import DaskTaskRunner

            return DaskTaskRunner(address=address)
        if kind == "ray":
            from prefect_ray.task_runners import RayTaskRunner  # type: ignore[import-untyped]

            ray: TaskRunner[Any] = RayTaskRunner(address=address)
            return ray
    except ImportError as error:
        raise MissingExtraError(
            f"runner {kind} needs a package: pip install 'deeplense-pipeline[{kind}]'"
        ) from error
    return ThreadPoolTaskRunner(max_workers=1)
