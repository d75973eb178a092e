"""kfp door of import_dataset."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Markdown, Output


@dsl.component(base_image="python:3.11", install_kfp_package=False, packages_to_install=[])
def import_dataset(
    config: dict,
    section: str,
    workspace: str,
    run_id: str,
    dataset: Input[Dataset],
    card: Output[Artifact],
    items: Output[Dataset],
    judged_queries: Output[Dataset],
    judgments: Output[Dataset],
    summary: Output[Markdown],
):
    """Catalogue, judged queries and judgments of a data folder, read through its card.

    Args:
        config: Recipe section.
        section: Name of the recipe section.
        workspace: URI below which outputs are kept.
        run_id: Name of the pipeline run, for tracking.
        dataset: Data folder, or a pointer to it.
        card: The resolved card: files, columns, grades and gains.
        items: Table `items`.
        judged_queries: Table `queries`, before the log is known.
        judgments: Table `judgments`.
        summary: Rows read, kept and dropped by reason.
    """
    from components.import_dataset.config import ImportDatasetConfig
    from components.shared.handover import perform

    perform(
        "components.import_dataset.step", ImportDatasetConfig, section=section, config=config, workspace=workspace, run_id=run_id,
        inputs={"dataset": dataset},
        outputs={"card": card, "items": items, "judged_queries": judged_queries, "judgments": judgments}, pages={"summary": summary},
    )  # fmt: skip
