"""kfp door of build_pool."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Markdown, Output


@dsl.component(base_image="python:3.11", install_kfp_package=False, packages_to_install=[])
def build_pool(
    config: dict,
    section: str,
    workspace: str,
    run_id: str,
    items: Input[Dataset],
    queries: Input[Dataset],
    judgments: Input[Dataset],
    interactions: Input[Dataset],
    pairs: Output[Dataset],
    summary: Output[Markdown],
):
    """Choose the unlabelled pairs that the teacher will score, and lay them out in shards.

    Args:
        config: recipe section `pool`.
        section: name of the recipe section.
        workspace: URI under which outputs are kept.
        run_id: the pipeline run that tracking belongs to.
        items: the catalogue.
        queries: judged queries and kept queries of the log.
        judgments: graded pairs; those of dev and test say what must stay out.
        interactions: counts of the log per query, item and day.
        pairs: the plan: pairs with their source and shard.
        summary: pairs by source, held-out queries and what was cut.
    """
    from components.build_pool.config import BuildPoolConfig
    from components.shared.handover import perform
    from components.shared.registry import resolve

    perform(
        "components.build_pool.step",
        BuildPoolConfig,
        section=section,
        config=config,
        workspace=workspace,
        run_id=run_id,
        inputs={"items": items, "queries": queries, "judgments": judgments, "interactions": interactions},
        outputs={"pairs": pairs},
        pages={"summary": summary},
        values={"bi_encoder": lambda: resolve(config.get("bi_encoder", ""))} if config.get("num_nearest") else {},
    )
