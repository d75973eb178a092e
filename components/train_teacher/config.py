"""Settings of train_teacher (recipe section `teacher`)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from components.shared import storage
from components.shared.config import NOT_SHAPING, StepConfig
from components.shared.scheduling import Scheduling


class TrainTeacherConfig(StepConfig):
    """What the teacher learns from, how long, and on how many processes."""

    folding: Literal["card", "walmart", "grades"] = Field(
        "card",
        description="Targets: 'card' = each grade with a share of its neighboring grades, 'grades' = one grade only, "
        "'walmart' = grades folded to 1, 0.5, 0 and cross-entropy on the expected gain.",
    )
    smoothing: float = Field(0.1, ge=0, lt=1, description="Probability that folding 'card' moves to the grades beside the judged one.")
    loss: Literal["by_folding", "soft_cross_entropy", "binary_cross_entropy"] = Field(
        "by_folding",
        description="Loss on the grades: 'soft_cross_entropy' compares distributions over grades, 'binary_cross_entropy' expected gains; "
        "'by_folding' takes the second for folding 'walmart' and else the first.",
    )
    vote_prior: float = Field(
        1.0,
        ge=0,
        description="Where people's votes are known they are the target, and the folded grade counts as so many votes beside them.",
    )
    balance: float = Field(
        0.0, ge=0, le=1, description="Weight of a grade is its frequency to the power of minus this; 0 weighs all alike."
    )
    num_neighbors: int = Field(3, ge=0, description="Behavior neighbors shown per side; 0 shows none.")
    neighbor_dropout: float = Field(
        0.3, ge=0, le=1, description="Share of training pairs, drawn anew every epoch, shown without neighbors."
    )
    stages: list[Literal["semantic", "query", "item", "neighbors", "both"]] = Field(
        [],
        description="Prompts of each pair, whose answers are combined: 'semantic' shows query and item alone, 'query' and 'item' also the "
        "neighbors of that side, 'neighbors' of both sides, 'both' with how often shoppers accepted them. Training draws one per pair and "
        "epoch in place of neighbor_dropout. Scoring costs as many times as the prompts of a pair differ; empty asks once.",
    )
    combiner: Literal["learned", "mean"] = Field(
        "learned", description="'learned': weights of the stages, fitted to the held-out queries; 'mean': all alike."
    )
    validation_share: float = Field(0.1, ge=0, lt=1, description="Share of the training queries held out to report on.")
    max_tokens: int = Field(160, ge=8, description="Longest prompt, in tokens; what is longer is cut.")
    reading: Literal["joint", "separate"] = Field(
        "joint",
        description="'joint': query and item in one text, with a head over the grades. 'separate': a text each, and grades from their "
        "cosine; for an encoder of single texts and few judgments, because it starts from all that the encoder knows.",
    )
    form: Literal["head", "generative"] = Field(
        "head",
        description="'head': a head reads the grades at the last token. 'generative', for decoders: the teacher writes, and the grades' "
        "distribution is that of their tokens.",
    )
    reasoning: list[Literal["explain", "rules", "reflect"]] = Field(
        [],
        description="What a generative teacher is taught beside the grade: to explain it by sub-judgments, to walk through written rules, "
        "to reflect on a wrong decision. A task is drawn for each pair and epoch; empty teaches the grade alone.",
    )
    steps: bool = Field(
        True,
        description="Whether a teacher that was taught 'explain' or 'rules' scores by it; false reads the grade right after the prompt.",
    )
    step_tokens: int = Field(96, ge=1, description="Longest chain of steps that is written before the grade, in tokens.")
    sub_judgments: str = Field(
        "", description="URI of table `sub_judgments` (room annotate_pairs) that reasoning is taught from; empty makes them by rules."
    )
    ranking_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of a RankNet loss on the order of a query's items beside the loss on their grades; 0 leaves it out. "
        "A teacher that reads separately learns by RankNet alone.",
    )
    items_per_query: int = Field(8, ge=2, description="Items of a query that stand together in a batch where a loss compares them.")
    num_epochs: int = Field(4, ge=1, description="Passes over the training pairs.")
    learning_rate: float = Field(3e-4, gt=0, description="Peak learning rate; a pretrained encoder wants a third of the default or less.")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decay of matrices.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients longer than this are cut to it.")
    batch_size: int = Field(0, ge=0, description="Pairs of a batch over all processes; 0 to use batch_tokens.")
    batch_tokens: int = Field(2048, ge=64, description="Tokens of a batch over all processes, padding included.")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="'auto' is bf16 where the hardware has it, else fp32.")
    lora_rank: int = Field(0, ge=0, description="Rank of LoRA adapters on all linear layers, merged when saved; 0 trains all weights.")
    freeze_backbone: bool = Field(False, description="Train the head alone: a quick baseline for a backbone that embeds well already.")
    activation_checkpointing: bool = Field(False, description="Compute activations twice to hold fewer of them in memory.")
    num_nodes: int = Field(
        1,
        ge=1,
        description="Machines that train together; where launcher is 'local', this one stands for all of them.",
        json_schema_extra=NOT_SHAPING,
    )
    num_processes: int = Field(
        1, ge=1, description="Processes on each node; more than one in all trains with DeepSpeed.", json_schema_extra=NOT_SHAPING
    )
    zero_stage: int = Field(
        0, ge=0, le=3, description="DeepSpeed ZeRO stage; 0 with several processes is 1.", json_schema_extra=NOT_SHAPING
    )
    launcher: Literal["local", "trainjob"] = Field(
        "local",
        description="Where processes run: 'local' = on this machine, 'trainjob' = in pods of a Kubeflow TrainJob.",
        json_schema_extra=NOT_SHAPING,
    )
    resources_per_node: dict[str, str] = Field(
        {"cpu": "32", "memory": "256Gi", "nvidia.com/gpu": "8"},
        description="What each pod of a TrainJob gets, in Kubernetes' quantities.",
        json_schema_extra=NOT_SHAPING,
    )
    scheduling: Scheduling = Field(
        Scheduling(),
        description="On which nodes pods of a TrainJob may run: tolerations, node_selector, affinity, in Kubernetes' form. "
        "The pipeline fills it with the task's own.",
        json_schema_extra=NOT_SHAPING,
    )
    runtime: str = Field(
        "torch-distributed",
        pattern=r"^(TrainingRuntime/)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
        description="ClusterTrainingRuntime of a TrainJob, whose pods get `scheduling`, this task's account and its shared memory; or "
        "'TrainingRuntime/<name>', one of the namespace, which says all but `scheduling` itself.",
        json_schema_extra=NOT_SHAPING,
    )
    trainer_version: Literal["auto", "2.0", "2.1", "2.2"] = Field(
        "auto", description="Kubeflow Trainer's release, '2.2' for later ones too; 'auto' asks the cluster.", json_schema_extra=NOT_SHAPING
    )
    queue: str = Field(
        "", description="Kueue's local queue that a TrainJob waits in; empty starts its pods at once.", json_schema_extra=NOT_SHAPING
    )
    timeout_s: int = Field(
        86_400, ge=1, description="Longest that training on several processes may take, in seconds.", json_schema_extra=NOT_SHAPING
    )
    checkpoint_steps: int = Field(200, ge=0, description="Steps between checkpoints; 0 writes none.", json_schema_extra=NOT_SHAPING)
    log_steps: int = Field(10, ge=1, description="Steps between two points of the loss curve.", json_schema_extra=NOT_SHAPING)
    selection: Literal["none", "hard_and_clean"] = Field(
        "none",
        description="'hard_and_clean': train on the pairs that three selectors find learnable, hard and not mislabelled; 'none': on all.",
    )
    selection_folds: int = Field(
        2, ge=2, description="Parts of the queries; each is predicted by selectors, trained anew, that have not seen its queries."
    )
    selection_epochs: int = Field(2, ge=1, description="Passes of a selector over its pairs; otherwise it is trained as the teacher is.")
    selection_random_share: float = Field(
        0.3, gt=0, le=1, description="Share of the pairs, drawn at random, that the selector learns from which knows what is easy."
    )
    selection_balanced_share: float = Field(
        0.6,
        gt=0,
        le=1,
        description="Share of the pairs, equally many of head, torso and tail queries, that the selector of hard pairs learns from.",
    )
    selection_min_pairs: int = Field(200, ge=1, description="Fewest selected pairs that the teacher is trained on; with fewer it stops.")
    preference_epochs: int = Field(
        0,
        ge=0,
        description="Passes over pairs whose judged grade was not the trained model's first answer, to prefer it (DPO); 0 leaves it out.",
    )
    preference_top_k: int = Field(2, ge=2, description="The judged grade must be among so many first answers of the model.")
    preference_beta: float = Field(0.1, gt=0, description="DPO's beta: how strongly the tuned model is held to the one before it.")
    preference_weight: float = Field(
        0.65, ge=0, le=1, description="Weight of DPO in a step of preference tuning; the rest is the loss of training, on as many pairs."
    )
    preference_learning_rate: float = Field(3e-5, gt=0, description="Peak learning rate of preference tuning.")
    preference_max_f1_loss: float = Field(
        0.01, ge=0, le=1, description="Macro F1 on held-out queries that the tuned model may lose; one that loses more is dropped."
    )
    min_pairwise_accuracy: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of held-out item pairs that a teacher must order right whose gains tell no more than the mean grade, or "
        "training fails; 0.5 is chance, 0 lets all pass. A finished training is not asked again.",
        json_schema_extra=NOT_SHAPING,
    )
    seed: int = Field(7, ge=0, description="Seed of everything random.")

    @model_validator(mode="after")
    def _batches_reach_all(self) -> Self:
        if self.batch_size and self.batch_size < self.world_size():
            which = "num_processes" if self.num_nodes == 1 else "num_nodes x num_processes ="
            raise ValueError(f"batch_size {self.batch_size} is smaller than {which} {self.world_size()}")
        return self

    @model_validator(mode="after")
    def _one_way_to_train_less(self) -> Self:
        if self.freeze_backbone and (self.lora_rank or self.reading == "separate"):
            raise ValueError("freeze_backbone leaves only the head to train; set lora_rank 0 and reading 'joint'")
        return self

    @model_validator(mode="after")
    def _separate_is_plain(self) -> Self:
        if self.reading == "separate" and (self.lora_rank or self.distributed()):
            raise ValueError(
                "reading 'separate' trains all weights in one process; set lora_rank 0, num_nodes and num_processes 1, zero_stage 0 "
                "and launcher 'local'"
            )
        return self

    @model_validator(mode="after")
    def _writing_is_plain(self) -> Self:
        if self.form == "head" and (self.reasoning or self.sub_judgments):
            raise ValueError("reasoning and sub_judgments are for a teacher that writes; set form 'generative'")
        if len(set(self.reasoning)) < len(self.reasoning):
            raise ValueError(f"reasoning {', '.join(self.reasoning)} names a task twice")
        by_gain = self.folding == "walmart" or self.loss_name() == "binary_cross_entropy"
        others = by_gain or self.reading == "separate" or self.ranking_weight or self.freeze_backbone
        if self.form == "generative" and others:
            raise ValueError(
                "form 'generative' learns tokens: set folding 'card' or 'grades', loss 'soft_cross_entropy', reading 'joint', "
                "ranking_weight 0 and freeze_backbone false"
            )
        return self

    def references(self) -> dict[str, str]:
        """The table that `sub_judgments` names, so that a teacher is trained again when it was written again."""
        is_there = self.sub_judgments and storage.exists(self.sub_judgments)
        return {"sub_judgments": storage.listing_digest(self.sub_judgments)} if is_there else {}

    @model_validator(mode="after")
    def _stages_can_be_asked(self) -> Self:
        if len(set(self.stages)) < len(self.stages):
            raise ValueError(f"stages {', '.join(self.stages)}: name each once")
        if self.stages and (self.reading == "separate" or self.form == "generative"):
            raise ValueError("stages are for reading 'joint' and form 'head'; leave them empty")
        if set(self.stages) - {"semantic"} and not self.num_neighbors:
            raise ValueError(f"stages {', '.join(self.stages)} show neighbors; set num_neighbors above 0")
        return self

    @model_validator(mode="after")
    def _selection_asks_grades(self) -> Self:
        if self.selection != "none" and (self.reading == "separate" or self.launcher == "trainjob"):
            raise ValueError(
                "selection asks selectors for grades on this machine; set reading 'joint' and launcher 'local', or selection 'none'"
            )
        return self

    @model_validator(mode="after")
    def _preference_is_tuned_here(self) -> Self:
        if self.preference_epochs and (self.reading == "separate" or self.form == "generative" or self.distributed()):
            raise ValueError(
                "preference tuning is built for reading 'joint' and form 'head' in one process; set num_nodes and num_processes 1, "
                "zero_stage 0 and launcher 'local', or preference_epochs 0"
            )
        return self

    @model_validator(mode="after")
    def _what_is_needed_is_held_out(self) -> Self:
        if (needed_by := self.needs_held_out()) and not self.validation_share:
            raise ValueError(
                f"{needed_by} needs held-out queries; set validation_share above 0, or combiner 'mean' and preference_epochs 0"
            )
        return self

    @model_validator(mode="after")
    def _pods_have_a_gpu_for_each_process(self) -> Self:
        gpus = int(self.resources_per_node.get("nvidia.com/gpu", 0))
        if self.launcher == "trainjob" and gpus and gpus != self.num_processes:
            raise ValueError(f"num_processes {self.num_processes} on pods of {gpus} GPUs; make num_processes and resources_per_node agree")
        return self

    def needs_held_out(self) -> str:
        """The setting that cannot do without held-out queries; empty where none is set."""
        if self.preference_epochs:
            return "preference_epochs"
        return "combiner 'learned'" if self.stages and self.combiner == "learned" else ""

    def loss_name(self) -> str:
        by_folding = "binary_cross_entropy" if self.folding == "walmart" else "soft_cross_entropy"
        return by_folding if self.loss == "by_folding" else self.loss

    def compares_items(self) -> bool:
        """Whether a loss looks at the order of a query's items, so that they must stand together."""
        return self.ranking_weight > 0 or self.reading == "separate"

    def world_size(self) -> int:
        """Processes on all nodes."""
        return self.num_nodes * self.num_processes

    def distributed(self) -> bool:
        """Whether training runs in processes of its own, with DeepSpeed."""
        return self.world_size() > 1 or self.zero_stage > 0 or self.launcher == "trainjob"
