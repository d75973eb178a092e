"""kfp door of retrieve_neighbors."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Markdown, Output


@dsl.component(base_image="python:3.11", install_kfp_package=False, packages_to_install=[])
def retrieve_neighbors(
    config: dict,
    section: str,
    workspace: str,
    run_id: str,
    interactions: Input[Dataset],
    items: Input[Dataset],
    queries: Input[Dataset],
    judgments: Input[Dataset],
    lineage: Input[Artifact],
    neighbors: Output[Dataset],
    evidence: Output[Dataset],
    page: Output[HTML],
    summary: Output[Markdown],
):
    """Find what shoppers accepted for a query and which queries an item satisfied.

    Args:
        config: recipe section `neighbors`.
        section: name of the recipe section.
        workspace: URI under which outputs are kept.
        run_id: the pipeline run that tracking belongs to.
        interactions: counts of the log per query, item and day.
        items: the catalogue.
        queries: judged queries and kept queries of the log.
        judgments: graded pairs; their days decide which snapshots are made.
        lineage: what extract_logs says of the night: window and last day.
        neighbors: table of neighbors with their evidence, by snapshot day.
        evidence: counts of all pairs up to the log's last day, for a later run to go on from.
        page: pictures of the newest snapshot: neighbors per key, evidence and its threshold, queries by segment.
        summary: counts and quantiles of the evidence.
    """
    from components.retrieve_neighbors.config import RetrieveNeighborsConfig
    from components.retrieve_neighbors.nights import Nights
    from components.shared import storage
    from components.shared.handover import address_of, perform

    def nights() -> Nights:
        settings = RetrieveNeighborsConfig.from_mapping(config, section=section)
        return Nights(settings, storage.join(workspace, section), address_of(lineage)["uri"])

    perform(
        "components.retrieve_neighbors.step",
        RetrieveNeighborsConfig,
        section=section,
        config=config,
        workspace=workspace,
        run_id=run_id,
        inputs={"interactions": interactions, "items": items, "queries": queries, "judgments": judgments},
        outputs={"neighbors": neighbors, "evidence": evidence},
        pages={"neighbors.html": page, "summary": summary},
        values={"previous": lambda: nights().previous()},
    )
    nights().record(neighbors.metadata["uri"])
