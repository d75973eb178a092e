"""kfp door of sample_judgments."""

from typing import Optional

from kfp import dsl
from kfp.dsl import Dataset, Input, Markdown, Model, Output


@dsl.component(base_image="python:3.11", install_kfp_package=False, packages_to_install=[])
def sample_judgments(
    config: dict,
    section: str,
    workspace: str,
    run_id: str,
    queries: Input[Dataset],
    items: Input[Dataset],
    sheet: Output[Dataset],
    summary: Output[Markdown],
    soft_targets: Optional[Input[Dataset]] = None,  # noqa: UP045  kfp reads only this spelling
    rankings: Optional[Input[Dataset]] = None,  # noqa: UP045
    model: Optional[Input[Model]] = None,  # noqa: UP045
    judgments: Optional[Input[Dataset]] = None,  # noqa: UP045
):
    """Choose the pairs that people should judge next.

    Args:
        config: settings of the sheet.
        section: name of the section, below which the sheet lies.
        workspace: URI under which outputs are kept.
        run_id: the pipeline run that tracking belongs to.
        queries: table `queries`.
        items: table `items`.
        sheet: the CSV file.
        summary: how many pairs there are to choose from.
        soft_targets: the teacher's scores with entropy and disagreement.
        rankings: in their place, a student's scores.
        model: that student, with calibration.
        judgments: graded pairs, which are left out.
    """
    from components.sample_judgments.config import SampleJudgmentsConfig
    from components.shared.handover import perform

    given = {"soft_targets": soft_targets, "rankings": rankings, "model": model, "queries": queries, "items": items, "judgments": judgments}
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
