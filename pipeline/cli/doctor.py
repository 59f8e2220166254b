"""``deeplense doctor``."""

from pipeline.cli.options import Json
from pipeline.cli.output import Result, table


def doctor(*, json: Json = False) -> Result:
    """Check versions, devices, extras and the Prefect server, and run a short self-test."""
    from pipeline.workflow.doctor import examine

    summary = examine()
    rows = [(check.name, "ok" if check.ok else "FAILED", check.detail) for check in summary.checks]
    return Result(summary, table(("check", "result", "detail"), rows), 0 if summary.ok else 1)
