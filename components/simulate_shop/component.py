"""kfp door of simulate_shop."""

from kfp import dsl
from kfp.dsl import Dataset, Markdown, Output


@dsl.component(base_image="python:3.11", install_kfp_package=False, packages_to_install=[])
def simulate_shop(
    config: dict,
    section: str,
    workspace: str,
    run_id: str,
    given: str,
    dataset: Output[Dataset],
    summary: Output[Markdown],
):
    """A data folder: a made-up shop, or a pointer to the given one.

    Args:
        config: Recipe section.
        section: Name of the recipe section.
        workspace: URI below which outputs are kept.
        run_id: Name of the pipeline run, for tracking.
        given: URI of your data folder; empty makes a shop.
        dataset: Folder with `dataset.yaml`, catalogue, queries, judgments and UBI log; or only `given.json`.
        summary: Sizes of what was made.
    """
    from components.shared.handover import perform
    from components.simulate_shop.config import SimulateShopConfig

    perform(
        "components.simulate_shop.step", SimulateShopConfig, section=section, config=config, workspace=workspace, run_id=run_id,
        inputs={}, outputs={"dataset": dataset}, pages={"summary": summary}, values={"given": given},
    )  # fmt: skip
