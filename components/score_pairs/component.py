"""kfp door of score_pairs."""

from typing import Optional

from kfp import dsl
from kfp.dsl import Dataset, Input, Markdown, Model, Output


@dsl.component(
    base_image="python:3.11", install_kfp_package=False, packages_to_install=[],
    task_config_passthroughs=[dsl.TaskConfigPassthrough(field, apply_to_task=True) for field in dsl.TaskConfigField],
)  # fmt: skip
def score_pairs(
    config: dict,
    section: str,
    workspace: str,
    run_id: str,
    system: str,
    pairs: Input[Dataset],
    queries: Input[Dataset],
    items: Input[Dataset],
    scores: Output[Dataset],
    summary: Output[Markdown],
    task: dsl.TaskConfig,
    model: Optional[Input[Model]] = None,  # noqa: UP045  kfp reads only this spelling
    neighbors: Optional[Input[Dataset]] = None,  # noqa: UP045
    interactions: Optional[Input[Dataset]] = None,  # noqa: UP045
    member: str = "0",
):
    """Score (query, item) pairs with a model.

    Args:
        config: recipe section `scoring` or `ranking_*`.
        system: name of the model in rankings; takes the place of `config.system`.
        pairs: table `pairs` (the pool) or `judgments` (for evaluation).
        queries: table `queries`.
        items: table `items`.
        scores: table `soft_targets` or `rankings`.
        summary: counts, speed, model.
        task: where this task may run, and so the helpers that it starts.
        model: model folder; without it the one that `config.model` names.
        neighbors: table `neighbors`, for a teacher trained with them.
        interactions: table `interactions`, against which soft targets are held.
        member: number of this task where several score one table.
    """
    from components.score_pairs.config import ScorePairsConfig
    from components.shared.handover import perform
    from components.shared.registry import resolve
    from components.shared.scheduling import with_scheduling

    given = {"pairs": pairs, "queries": queries, "items": items, "model": model, "neighbors": neighbors, "interactions": interactions}
    named = {**with_scheduling(config, task), "member": int(member)} | ({"system": system} if system else {})
    values = {} if model else {"model": lambda: resolve(config.get("model", ""))}
    perform(
        "components.score_pairs.step",
        ScorePairsConfig,
        section=section,
        config=named,
        workspace=workspace,
        run_id=run_id,
        inputs={name: artifact for name, artifact in given.items() if artifact},
        outputs={"scores": scores},
        pages={"summary": summary},
        values=values,
    )
