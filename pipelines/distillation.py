"""The nightly pipeline: tasks and edges, nothing else. Where tasks run is in `placement.py`, with which settings in a recipe."""

from kfp import dsl

from components.build_pool.component import build_pool
from components.evaluate_rankings.component import evaluate_rankings
from components.extract_logs.component import extract_logs
from components.import_dataset.component import import_dataset
from components.prepare_encoder.component import prepare_encoder
from components.promote_model.component import promote_model
from components.retrieve_neighbors.component import retrieve_neighbors
from components.score_pairs.component import score_pairs
from components.simulate_shop.component import simulate_shop
from components.train_student.component import train_student
from components.train_teacher.component import train_teacher


# fmt: off
def distillation(
    shop: dict, dataset: dict, logs: dict, neighbors: dict, teacher_encoder: dict, student_encoder: dict, teacher: dict, pool: dict,
    scoring: dict, cross_encoder: dict, bi_encoder: dict, ranking: dict, evaluation: dict, promotion: dict,
    workspace: str, data: str = "", date: str = "",
):
    """Turn a shop's search log into a small relevance model, and promote it if it is better than the champion.

    Args:
        shop: simulate_shop: the made-up shop that stands in where `data` is empty.
        dataset: import_dataset: which card describes the data folder, and how queries are split.
        logs: extract_logs: sessions, attribution, robots, privacy.
        neighbors: retrieve_neighbors: how much evidence makes a neighbor.
        teacher_encoder: prepare_encoder: what the teacher starts from.
        student_encoder: prepare_encoder: what both students start from.
        teacher: train_teacher.
        pool: build_pool: which unlabelled pairs the teacher will score.
        scoring: score_pairs: the teacher's bulk scoring of the pool.
        cross_encoder: train_student, joint encoding.
        bi_encoder: train_student, separate encoding.
        ranking: score_pairs: scoring of the judged pairs by every system that is compared.
        evaluation: evaluate_rankings: measures, intervals, slices.
        promotion: promote_model: the gate between challenger and champion.
        workspace: URI below which all outputs lie.
        data: URI of the shop's data folder; empty means a made-up shop.
        date: last day of the log that counts, YYYY-MM-DD or a schedule placeholder; empty means the log's last day.
    """
    run = {"workspace": workspace, "run_id": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
    shop_task = simulate_shop(config=shop, section="shop", given=data, **run).set_display_name("Shop")
    import_task = import_dataset(config=dataset, section="dataset", dataset=shop_task.outputs["dataset"], **run).set_display_name("Import")
    card, items, judgments = (import_task.outputs[name] for name in ("card", "items", "judgments"))
    log_task = extract_logs(config=logs, section="logs", card=card, judged_queries=import_task.outputs["judged_queries"], date=date,
                            **run).set_display_name("Log")
    interactions, queries, lineage = (log_task.outputs[name] for name in ("interactions", "queries", "lineage"))
    texts = {"queries": queries, "items": items}
    near = retrieve_neighbors(
        config=neighbors, section="neighbors", interactions=interactions, judgments=judgments, lineage=lineage, **texts, **run,
    ).set_display_name("Behavior neighbors").outputs["neighbors"]
    big = prepare_encoder(config=teacher_encoder, section="teacher_encoder", **texts, **run).set_display_name("Teacher encoder")
    small = prepare_encoder(config=student_encoder, section="student_encoder", **texts, **run).set_display_name("Student encoder")
    teacher_task = train_teacher(
        config=teacher, section="teacher", card=card, encoder=big.outputs["encoder"], judgments=judgments, neighbors=near, **texts, **run,
    ).set_display_name("Teacher")
    pool_task = build_pool(
        config=pool, section="pool", judgments=judgments, interactions=interactions, **texts, **run).set_display_name("Pool")
    scoring_task = score_pairs(
        config=scoring, section="scoring", system="teacher", model=teacher_task.outputs["model"], pairs=pool_task.outputs["pairs"],
        neighbors=near, interactions=interactions, **texts, **run).set_display_name("Teacher scores the pool")
    lesson = {"encoder": small.outputs["encoder"], "pairs": pool_task.outputs["pairs"], "judgments": judgments,
              "soft_targets": scoring_task.outputs["scores"], "neighbors": near}
    cross = train_student(config=cross_encoder, section="cross_encoder", **lesson, **texts, **run).set_display_name("Cross-encoder")
    bi = train_student(config=bi_encoder, section="bi_encoder", **lesson, **texts, **run).set_display_name("Bi-encoder")
    compared = {
        "teacher": {"model": teacher_task.outputs["model"]}, "cross_encoder": {"model": cross.outputs["model"]},
        "bi_encoder": {"model": bi.outputs["model"]}, "untrained": {"model": small.outputs["encoder"]}, "champion": {},
    }
    rankings = {system: score_pairs(
        config=ranking, section=f"ranking_{system}", system=system, pairs=judgments, neighbors=near, **models, **texts, **run,
    ).set_display_name(f"Rank: {system}").outputs["scores"] for system, models in compared.items()}
    evaluate_task = evaluate_rankings(
        config=evaluation, section="evaluation", card=card, judgments=judgments, **rankings, **texts, **run).set_display_name("Evaluate")
    promote_model(config=promotion, section="promotion", evaluation=evaluate_task.outputs["evaluation"],
                  cross_encoder=cross.outputs["model"], bi_encoder=bi.outputs["model"], lineage=lineage, **run).set_display_name("Promote")
