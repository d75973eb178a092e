"""kfp door of annotate_pairs."""

from typing import Optional

from kfp import dsl
from kfp.dsl import Dataset, Input, Markdown, Output


@dsl.component(base_image="python:3.11", install_kfp_package=False, packages_to_install=[])
def annotate_pairs(
    config: dict,
    section: str,
    workspace: str,
    run_id: str,
    pairs: Input[Dataset],
    queries: Input[Dataset],
    items: Input[Dataset],
    sub_judgments: Output[Dataset],
    summary: Output[Markdown],
    judgments: Optional[Input[Dataset]] = None,  # noqa: UP045  kfp reads only this spelling
    neighbors: Optional[Input[Dataset]] = None,  # noqa: UP045
):
    """Say of pairs which aspects of the query the item meets.

    Args:
        config: who annotates.
        section: name of the section, below which the table lies.
        workspace: URI under which outputs are kept.
        run_id: the pipeline run that tracking belongs to.
        pairs: table `pairs` or `judgments`.
        queries: table `queries`.
        items: table `items`.
        sub_judgments: the table to write.
        summary: how much was told, kept, and in agreement.
        judgments: graded pairs that teach the rules what words mean.
        neighbors: behavior neighbors, for a teacher that reads them.
    """
    from components.annotate_pairs.config import AnnotatePairsConfig
    from components.shared.handover import perform

    given = {"pairs": pairs, "queries": queries, "items": items, "judgments": judgments, "neighbors": neighbors}
    perform(
        "components.annotate_pairs.step",
        AnnotatePairsConfig,
        section=section,
        config=config,
        workspace=workspace,
        run_id=run_id,
        inputs={name: artifact for name, artifact in given.items() if artifact},
        outputs={"sub_judgments": sub_judgments},
        pages={"summary": summary},
    )
