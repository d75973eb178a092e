"""kfp door of evaluate_rankings."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Markdown, Metrics, Output


@dsl.component(base_image="python:3.11", install_kfp_package=False, packages_to_install=[])
def evaluate_rankings(
    config: dict,
    section: str,
    workspace: str,
    run_id: str,
    card: Input[Dataset],
    judgments: Input[Dataset],
    queries: Input[Dataset],
    items: Input[Dataset],
    teacher: Input[Dataset],
    cross_encoder: Input[Dataset],
    bi_encoder: Input[Dataset],
    untrained: Input[Dataset],
    champion: Input[Dataset],
    evaluation: Output[Dataset],
    report: Output[HTML],
    metrics: Output[Metrics],
    summary: Output[Markdown],
):
    """Metrics of every system with intervals.

    Args:
        card: resolved data card, names grades and gains.
        judgments: graded pairs.
        queries: texts, segments and kinds.
        items: titles, and the catalogue of the bm25 row.
        teacher: table rankings.
        cross_encoder: table rankings.
        bi_encoder: table rankings.
        untrained: table rankings of the student before training.
        champion: table rankings of the deployed model; empty when there is none.
        evaluation: folder with metrics.json, per_query.parquet, report.html.
        report: the report page.
        metrics: mean of each system and metric.
        summary: counts and notes.
    """
    from components.evaluate_rankings.config import EvaluateRankingsConfig
    from components.shared.handover import perform

    rankings = [teacher, cross_encoder, bi_encoder, untrained, champion]
    done = perform(
        "components.evaluate_rankings.step",
        EvaluateRankingsConfig,
        section=section,
        config=config,
        workspace=workspace,
        run_id=run_id,
        inputs={"card": card, "judgments": judgments, "queries": queries, "items": items, "rankings": rankings},
        outputs={"evaluation": evaluation},
        pages={"evaluation/report.html": report, "summary": summary},
    )
    for name, value in done.metrics.items():
        metrics.log_metric(name, value)
