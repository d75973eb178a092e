"""What is sent to a Kubeflow: the compiled pipeline, its name there, and the arguments of its runs. No server is asked here.

A pipeline version is named by git revision and by the digest of the compiled file, so unchanged content is uploaded once. The date is
no part of it: it is an argument of each run.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared import storage
from components.shared.errors import InputError
from pipelines import ir, recipe, run_local
from pipelines.lint import lint
from pipelines.placement import CLUSTER, Images, in_pods, in_queue


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for."""

    recipe: str = "tiny"
    overrides: Sequence[str] = ()
    data: str = ""
    date: str = ""
    workspace: str = ""
    profile: str = CLUSTER
    images: Images | None = None
    service_account: str = ""

    @property
    def name(self) -> str:
        return Path(self.recipe).stem


@dataclass(frozen=True, kw_only=True)
class Package:
    """A compiled pipeline that passed all checks, and what its runs are given."""

    file: Path
    name: str
    version: str
    description: str
    arguments: dict[str, Any]
    service_account: str = ""


def prepare(request: Request, folder: Path) -> Package:
    """Check everything, compile into `folder`, lint. No server is asked.

    Raises:
        InputError: naming what is wrong with recipe, images, date, workspace or data, and the remedy.
    """
    settings = recipe.load(request.recipe, request.overrides)
    day = run_local.check_date(request.date)
    places = {"workspace": check_workspace(request.workspace, request.profile), "data": _check_data(request, settings)}
    images = request.images if in_pods(request.profile) else None
    defaults = in_queue({**settings, **places, "date": ""}, images)
    file = ir.compile_pipeline(folder / "pipeline.yaml", defaults, request.profile, images, environment_tags(request.recipe))
    if problems := lint(ir.read_ir(file)):
        raise InputError(f"the compiled pipeline is unsound: {'; '.join(problems)}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    revision = run_local.git_revision() or "unversioned"
    commit, dirty, _ = revision.partition("-dirty")
    about = f"git {revision}, content sha256:{digest}, code {run_local.code_digest()}, recipe {request.name}, profile {request.profile}"
    return Package(
        file=file,
        name=request.name,
        version=f"{commit[:12]}{dirty}-{digest[:16]}",
        description=about,
        arguments=defaults | {"date": day},
        service_account=request.service_account,
    )


def check_workspace(workspace: str, profile: str) -> str:
    """Raises InputError unless tasks of the profile can all reach the workspace."""
    if not workspace:
        raise InputError("no workspace is given; give --workspace gs://BUCKET/FOLDER, where all outputs of the tasks go")
    if in_pods(profile) and (not workspace.startswith("gs://") or not workspace.removeprefix("gs://").strip("/")):
        raise InputError(f"workspace '{workspace}' cannot be reached from every task in a pod; give --workspace gs://BUCKET/FOLDER")
    return storage.normalise(workspace)


def environment_tags(recipe_name: str) -> dict[str, str]:
    """Environment of every task in a pod, from which tracking takes its tags."""
    return {
        "RELEVANCE_RECIPE": recipe_name,
        "RELEVANCE_GIT_REVISION": run_local.git_revision(),
        "RELEVANCE_CODE_DIGEST": run_local.code_digest(),
    }


def _check_data(request: Request, settings: recipe.Settings) -> str:
    if not request.data or not in_pods(request.profile):
        return run_local.check_data(request.data, settings["dataset"]["shape"])
    if not request.data.startswith("gs://"):
        raise InputError(f"data folder '{request.data}' cannot be reached from a cluster; copy it to a bucket and give --data gs://...")
    return storage.normalise(request.data)
