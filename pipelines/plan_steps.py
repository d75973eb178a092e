"""Time, GPUs and storage of every task of the DAG. Every number is a `Figure`, which knows what it was made from."""

from dataclasses import dataclass

from pipelines import recipe
from pipelines.placement import PLACES
from pipelines.plan_figures import Figure, Sources

REQUESTS_PER_SHARD = 5 / 32  # one after another, in shards.finish: five a shard, 32 at a time
SYSTEMS = ("teacher", "cross_encoder", "bi_encoder", "untrained", "champion")
NOTHING = Figure(0)


@dataclass(frozen=True)
class Step:
    """One task of the DAG; `gpus` is 0 where it runs on CPUs. `seconds` leaves the start of its pod out, `start` is that."""

    name: str
    seconds: Figure
    stored_bytes: Figure
    start: Figure
    gpus: Figure = NOTHING

    @property
    def wall_s(self) -> float:
        return self.seconds.value + self.start.value

    @property
    def gpu_hours(self) -> float:
        return self.wall_s * self.gpus.value / 3600

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.seconds.sources, *self.gpus.sources, *self.stored_bytes.sources, *self.start.sources)))


class Planner:
    """The tasks' formulas."""

    def __init__(self, sources: Sources) -> None:
        self.of = sources
        self.start = sources.assumed("task_start_seconds") + sources.result("kfp_overhead", "result", "with the hand-over")
        self.tiny = recipe.load("tiny")
        self.judged, self.train_share = sources.scale("judgments"), sources.setting("dataset", "train_share")
        self.evaluated = self.judged * Figure(1 - self.train_share.value, self.train_share.sources)

    def steps(self) -> list[Step]:
        """All tasks but the made-up shop, in an order in which they can run."""
        rank = [self._rank(system) for system in SYSTEMS]
        encoders = [self._encoder(kind) for kind in ("teacher", "student")]
        students = [self._student("Cross-encoder", "cross_encoder"), self._student("Bi-encoder", "bi_encoder")]
        first = [self._import(), self._log(), self._neighbors(), *encoders, self._teacher(), self._pool(), self._scoring()]
        return [*first, *students, *rank, self._evaluate(), self._promote()]

    def _step(self, name: str, seconds: Figure, stored: Figure = NOTHING, gpus: Figure = NOTHING) -> Step:
        return Step(name, seconds, stored, self.start, gpus)

    def _linear(self, task: str, rows: Figure, measured_rows: Figure) -> Figure:
        """Seconds of a CPU task that grows with its rows, from the default run; its start-up is counted in, so this is a high guess."""
        measured = self.of.result("run_times_tiny", "result", "runs", 0, "steps", task)
        return measured * rows / measured_rows / self.of.assumed("cpu_speedup")

    def _shop(self, section: str, key: str) -> Figure:
        """A setting of the recipe that run_times_tiny ran."""
        return Figure(float(self.tiny[section][key]), (f"recipe tiny {section}.{key}",))

    def _measured_judgments(self) -> Figure:
        return self._shop("shop", "num_queries") * self._shop("shop", "judgments_per_query")

    def _import(self) -> Step:
        rows = self.of.scale("items") + self.of.scale("queries") + self.judged
        measured = self._shop("shop", "num_items") + self._shop("shop", "num_queries") + self._measured_judgments()
        stored = self.of.scale("items") * self.of.assumed("item_bytes") + self.judged * self.of.assumed("row_bytes")
        return self._step("Import", self._linear("Import", rows, measured), stored)

    def _log(self) -> Step:
        sizes = self.of.record("extract_logs").get("result")
        largest = len(sizes) - 1 if isinstance(sizes, list) and sizes else 0  # the script writes its largest log last
        rate = self.of.result("extract_logs", "result", largest, "events_per_second")
        events, row = self.of.scale("events"), self.of.assumed("row_bytes")  # of interactions, at most one an event, and of queries
        stored = events * (self.of.assumed("event_bytes") + row) + self.of.scale("queries") * row
        return self._step("Log", events / rate / self.of.assumed("cpu_speedup"), stored)

    def _neighbors(self) -> Step:
        shop = [self.of.result("simulate_shop", *keys) for keys in (("result", "events"), ("settings", "num_sessions"))]
        measured = self._shop("shop", "num_sessions") * shop[0] / shop[1]
        most = (self.of.scale("queries") + self.of.scale("items")) * self.of.setting("neighbors", "num_neighbors")
        seconds = self._linear("Behavior neighbors", self.of.scale("events"), measured)
        return self._step("Behavior neighbors", seconds, most.at_most(self.of.scale("events")) * self.of.assumed("row_bytes"))

    def _encoder(self, kind: str) -> Step:
        size = self.of.assumed(f"{kind}_parameters") * self.of.assumed("bytes_per_parameter")
        return self._step(f"{kind.title()} encoder", size / self.of.assumed("download_bytes_per_second"), size)

    def rate(self, kind: str) -> Figure:
        """Pairs per second that a teacher or student scores on one GPU."""
        direct = self.of.assumed("pairs_per_second_per_gpu")
        if kind == "teacher" and direct.value:
            return direct
        bench = self.of.result("score_pairs", "result", "pairs_per_s", "bucketed_bf16") * self.of.assumed("gpu_speedup")
        work = self.of.assumed("bench_parameters") * self.of.result("score_pairs", "result", "mean_tokens")
        return bench * work / (self.of.assumed(f"{kind}_parameters") * self.of.assumed(f"{kind}_tokens"))

    def _prompts(self) -> Figure:
        """Prompts of a pair that a teacher with stages scores, at most: a pair without evidence has one."""
        return self.of.setting("teacher", "stages")

    def _training(self, kind: str, pairs: Figure, epochs: Figure) -> Figure:
        return pairs * epochs * self.of.assumed("training_cost") / self.rate(kind)

    def _teacher(self) -> Step:
        epochs = self.of.setting("teacher", "num_epochs")
        nodes, each = (self.of.setting("teacher", key) for key in ("num_nodes", "num_processes"))
        most = nodes * each if self.of.settings["teacher"]["launcher"] == "trainjob" else _placed("train-teacher")
        gpus = self.of.scale("gpus").at_most(most)
        kept = self.of.assumed("bytes_per_parameter") + self.of.assumed("checkpoint_bytes_per_parameter")
        seconds = self._training("teacher", self.judged * self.train_share, epochs) / gpus
        if gpus.value > 1:
            seconds = seconds / self.of.assumed("training_efficiency")
        return self._step("Teacher", seconds, self.of.assumed("teacher_parameters") * kept, gpus)

    def _pool(self) -> Step:
        share, factor = self._shop("shop", "train_share"), self._shop("pool", "size_factor")
        measured = self._measured_judgments() * share * factor
        pairs = self.of.scale("pairs")
        return self._step("Pool", self._linear("Pool", pairs, measured), pairs * self.of.assumed("pair_bytes"))

    def _scoring(self) -> Step:
        gpus, pairs = self.of.scale("gpus"), self.of.scale("pairs")
        stored = pairs * self.of.assumed("soft_target_bytes")
        scoring = pairs * self._prompts() / self.rate("teacher") / gpus * self.of.assumed("scoring_overhead")
        requests = self.of.setting("pool", "num_shards") * Figure(REQUESTS_PER_SHARD) * self.of.assumed("request_seconds")
        moved = stored * Figure(2)  # read and written again in larger files
        return self._step("Teacher scores the pool", scoring + requests + moved / self.of.assumed("read_bytes_per_second"), stored, gpus)

    def _student(self, name: str, section: str) -> Step:
        pairs, most = self.of.scale("pairs"), self.of.setting(section, "max_pairs")
        seconds = self._training("student", pairs.at_most(most) if most.value else pairs, self.of.setting(section, "num_epochs"))
        return self._step(
            name, seconds, self.of.assumed("student_parameters") * self.of.assumed("bytes_per_parameter"), _placed("train-student")
        )

    def _rank(self, system: str) -> Step:
        seconds = self.evaluated * self._prompts() / self.rate("teacher") if system == "teacher" else self.evaluated / self.rate("student")
        return self._step(f"Rank: {system}", seconds, self.evaluated * self.of.assumed("row_bytes"), _placed("score-pairs"))

    def _evaluate(self) -> Step:
        share = self._shop("shop", "train_share")
        measured = self._measured_judgments() * Figure(1 - share.value, share.sources)
        return self._step("Evaluate", self._linear("Evaluate", self.evaluated, measured), self.evaluated * self.of.assumed("row_bytes"))

    def _promote(self) -> Step:
        return self._step("Promote", self.of.result("run_times_tiny", "result", "runs", 0, "steps", "Promote"))


def _placed(room: str) -> Figure:
    return Figure(PLACES[room].gpus, (f"placement {room}.gpus",))
