"""kfp door of sample_judgments."""

from typing import Optional

from kfp import dsl
from kfp.dsl import Dataset, Input, Markdown, Output


@dsl.component(base_image="python:3.11", install_kfp_package=False, packages_to_install=[])
def sample_judgments(
    config: dict,
    section: str,
    workspace: str,
    run_id: str,
    soft_targets: Input[Dataset],
    queries: Input[Dataset],
    items: Input[Dataset],
    sheet: Output[Dataset],
    summary: Output[Markdown],
    judgments: Optional[Input[Dataset]] = None,  # noqa: UP045  kfp reads only this spelling
):
    """Choose the pairs that people should judge next.

    Args:
        config: settings of the sheet.
        section: name of the section, below which the sheet lies.
        workspace: URI under which outputs are kept.
        run_id: the pipeline run that tracking belongs to.
        soft_targets: the teacher's scores with entropy and disagreement.
        queries: table `queries`.
        items: table `items`.
        sheet: the CSV file.
        summary: how many pairs there are to choose from.
        judgments: graded pairs, which are left out.
    """
    from components.sample_judgments.config import SampleJudgmentsConfig
    from components.shared.handover import perform

    given = {"soft_targets": soft_targets, "queries": queries, "items": items, "judgments": judgments}
    perform(
        "components.sample_judgments.step",
        SampleJudgmentsConfig,
        section=section,
        config=config,
        workspace=workspace,
        run_id=run_id,
        inputs={name: artifact for name, artifact in given.items() if artifact},
        outputs={"sheet": sheet},
        pages={"summary": summary},
    )
