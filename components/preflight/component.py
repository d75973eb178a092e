"""kfp door of preflight."""

from kfp import dsl
from kfp.dsl import Markdown, Output


@dsl.component(base_image="python:3.11", install_kfp_package=False, packages_to_install=[])
def preflight(config: dict, section: str, workspace: str, run_id: str, summary: Output[Markdown]):
    """Look before the dear tasks start: storage, MLflow, rights, image, quota, accelerator, queue.

    Args:
        config: what the pipeline will need, as `pipelines/preflight.py` finds it.
        section: name of the task in tracking.
        workspace: URI below which all steps write.
        run_id: name of the pipeline run.
        summary: what was found, and what to ask the administrator for.
    """
    from components.preflight.config import PreflightConfig
    from components.preflight.step import run
    from components.shared.handover import tracked

    with tracked(section, workspace, run_id) as tracker:
        run(PreflightConfig.from_mapping(config, section=section), workspace=workspace, page=summary.path, tracker=tracker, run_id=run_id)
