"""kfp door of train_teacher."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Markdown, Model, Output


@dsl.component(
    base_image="python:3.11", install_kfp_package=False, packages_to_install=[],
    task_config_passthroughs=[dsl.TaskConfigPassthrough(field, apply_to_task=True) for field in dsl.TaskConfigField],
)  # fmt: skip
def train_teacher(
    config: dict,
    section: str,
    workspace: str,
    run_id: str,
    card: Input[Artifact],
    encoder: Input[Model],
    items: Input[Dataset],
    queries: Input[Dataset],
    judgments: Input[Dataset],
    neighbors: Input[Dataset],
    model: Output[Model],
    summary: Output[Markdown],
    task: dsl.TaskConfig,
):
    """Train the teacher on judgments and behavior neighbors.

    Args:
        card: grades and their gains.
        encoder: model folder to start from.
        items: catalogue.
        queries: queries with their split.
        judgments: human grades; only split train is learnt from.
        neighbors: behavior neighbors of queries and items.
        model: address of the teacher's model folder.
        summary: losses and validation metrics.
        task: where pods of a TrainJob may run.
    """
    from components.shared.handover import perform
    from components.shared.scheduling import with_scheduling
    from components.train_teacher.config import TrainTeacherConfig

    perform(
        "components.train_teacher.step", TrainTeacherConfig, section=section, workspace=workspace, run_id=run_id,
        config=with_scheduling(config, task),
        inputs={"card": card, "encoder": encoder, "items": items, "queries": queries, "judgments": judgments, "neighbors": neighbors},
        outputs={"model": model}, pages={"summary": summary},
    )  # fmt: skip
