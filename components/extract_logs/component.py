"""kfp door of extract_logs."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Markdown, Output


@dsl.component(base_image="python:3.11", install_kfp_package=False, packages_to_install=[])
def extract_logs(
    config: dict,
    section: str,
    workspace: str,
    run_id: str,
    date: str,
    card: Input[Dataset],
    judged_queries: Input[Dataset],
    events: Output[Dataset],
    interactions: Output[Dataset],
    queries: Output[Dataset],
    reformulations: Output[Dataset],
    lineage: Output[Artifact],
    summary: Output[Markdown],
):
    """Clean the search log: who clicked what after which query, without bots, duplicates and personal data.

    Args:
        config: Recipe section `logs`.
        section: Name of that section.
        workspace: URI of the folder below which all steps write.
        run_id: Name of the pipeline run.
        date: Last day of the log to use, YYYY-MM-DD; empty for the last day that the log holds.
        card: Resolved data card (JSON).
        judged_queries: Table `queries` of the judged queries.
        events: Table `events`: one cleaned user event a row.
        interactions: Table `interactions`: counts per query, item and day.
        queries: Table `queries`: judged and kept queries with frequency and segment.
        reformulations: Table `reformulations`: how often shoppers went from one query to a rewording of it.
        lineage: What left the warehouse, and which rows were malformed.
        summary: Rows read, kept, dropped and quarantined, by reason.
    """
    from components.extract_logs.config import ExtractLogsConfig
    from components.shared.handover import perform

    perform(
        "components.extract_logs.step",
        ExtractLogsConfig,
        section=section,
        config=config,
        workspace=workspace,
        run_id=run_id,
        inputs={"card": card, "judged_queries": judged_queries},
        outputs={
            "events": events,
            "interactions": interactions,
            "queries": queries,
            "reformulations": reformulations,
            "lineage": lineage,
        },
        pages={"summary": summary},
        values={"date": date},
    )
