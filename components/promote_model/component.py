"""kfp door of promote_model."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Markdown, Model, Output


@dsl.component(base_image="python:3.11", install_kfp_package=False, packages_to_install=[])
def promote_model(
    config: dict,
    section: str,
    workspace: str,
    run_id: str,
    evaluation: Input[Dataset],
    cross_encoder: Input[Model],
    bi_encoder: Input[Model],
    lineage: Input[Artifact],
    promotion: Output[Artifact],
    card: Output[Markdown],
    summary: Output[Markdown],
):
    """The gate between a trained model and the champion alias.

    Args:
        evaluation: folder of evaluate_rankings.
        cross_encoder: model folder of train_student; judged where `system` names it.
        bi_encoder: model folder of train_student; judged where `system` names it.
        lineage: folder of extract_logs; an empty or partial last day stops the promotion.
        promotion: JSON with decision, reason, numbers and version.
        card: the model card.
        summary: decision and reason.
    """
    from components.promote_model.config import PromoteModelConfig
    from components.shared.errors import InputError
    from components.shared.handover import perform

    students = {"cross_encoder": cross_encoder, "bi_encoder": bi_encoder}

    def challenger():
        system = PromoteModelConfig.from_mapping(config, section=section).system
        if system not in students:
            raise InputError(f"section '{section}': key 'system' = {system!r}; the pipeline trains {', '.join(students)}")
        return students[system]

    perform(
        "components.promote_model.step",
        PromoteModelConfig,
        section=section,
        config=config,
        workspace=workspace,
        run_id=run_id,
        inputs={"evaluation": evaluation, "model": challenger, "lineage": lineage},
        outputs={"promotion": promotion},
        pages={"README.md": card, "summary": summary},
        values={"run_id": run_id},
    )
