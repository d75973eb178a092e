"""kfp door of train_student."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Markdown, Model, Output


@dsl.component(base_image="python:3.11", install_kfp_package=False, packages_to_install=[])
def train_student(
    config: dict,
    section: str,
    workspace: str,
    run_id: str,
    encoder: Input[Model],
    items: Input[Dataset],
    queries: Input[Dataset],
    pairs: Input[Dataset],
    soft_targets: Input[Dataset],
    judgments: Input[Dataset],
    neighbors: Input[Dataset],
    model: Output[Model],
    summary: Output[Markdown],
):
    """Train a small student on the teacher's soft targets.

    Args:
        config: the recipe's section `cross_encoder` or `bi_encoder`.
        section: which of the two it is.
        workspace: address below which results stand.
        run_id: id of this pipeline run.
        encoder: model folder that the student starts from.
        items: table of items.
        queries: table of queries.
        pairs: the pool of (query, item) pairs.
        soft_targets: the teacher's scores of the pool.
        judgments: graded pairs; those of train queries teach beside the teacher where the recipe gives them a weight.
        neighbors: behavior neighbors; only a graph student reads them.
        model: the student's model folder.
        summary: pairs learnt from, agreement with the teacher on held-out queries.
    """
    from components.shared.handover import perform
    from components.train_student.config import TrainStudentConfig

    inputs = {
        "encoder": encoder,
        "items": items,
        "queries": queries,
        "pairs": pairs,
        "soft_targets": soft_targets,
        "judgments": judgments,
        "neighbors": neighbors,
    }
    perform("components.train_student.step", TrainStudentConfig, section=section, config=config, workspace=workspace, run_id=run_id,
            inputs=inputs, outputs={"model": model}, pages={"summary": summary})  # fmt: skip
