"""The Containerfiles as texts: pinned base, locked packages, code last, a numeric user, labels, no secret. `tests/images` builds them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = ("cpu", "gpu", "serve")


def steps_of(kind: str) -> list[tuple[str, str]]:
    """(instruction, arguments) of a Containerfile, without comments; continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "images" / kind / "Containerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def last_stage(kind: str) -> list[tuple[str, str]]:
    steps = steps_of(kind)
    return steps[max(index for index, (word, _) in enumerate(steps) if word == "FROM") :]


@pytest.mark.parametrize("kind", KINDS)
def test_every_stage_stands_on_the_base_that_is_given_by_digest_and_on_no_other(kind):
    steps = steps_of(kind)
    assert steps[0] == ("ARG", "PYTHON_IMAGE")  # no default: a tag would move
    stages = [rest.split(" AS ") for word, rest in steps if word == "FROM"]
    names = {stage[1] for stage in stages if len(stage) == 2}
    assert {stage[0] for stage in stages} <= {"${PYTHON_IMAGE}", *names}
    assert stages[-1] == ["${PYTHON_IMAGE}"]  # compilers and pip's leavings stay behind


@pytest.mark.parametrize("kind", KINDS)
def test_packages_are_locked_and_pips_configuration_is_mounted_and_not_copied(kind):
    for _, rest in (step for step in steps_of(kind) if step[0] == "RUN" and "pip install" in step[1]):
        assert rest.startswith("--mount=type=secret,id=pip_conf,target=/etc/pip.conf ")
        for command in re.split(r"&& ", rest):
            if "pip install" in command:
                assert "-c constraints.txt" in command or "--no-deps -r sbom.txt" in command
    texts = " ".join(rest for _, rest in steps_of(kind))
    assert not re.search(r"(?i)password|token|api_?key|index-url https?://[^ ]*@", texts)


@pytest.mark.parametrize("kind", KINDS)
def test_code_comes_last_and_runs_as_a_numeric_user_with_labels(kind):
    steps = last_stage(kind)
    copied = [rest.split()[0 if not rest.startswith("--from") else 1] for word, rest in steps if word == "COPY"]
    assert copied[:2] == ["/opt/venv", "/build/bom.cdx.json"]
    assert set(copied[2:]) == {"LICENSE"} | {one for one in copied if one.startswith(("components", "pipelines"))}
    after = steps[next(index for index, (word, rest) in enumerate(steps) if word == "COPY" and rest.startswith("LICENSE")) :]
    assert {word for word, _ in after} <= {"COPY", "USER", "CMD"}  # nothing that a change of code would run again
    assert [rest for word, rest in steps if word == "USER"] == ["10001:10001"]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', next(rest for word, rest in steps if word == "LABEL")))
    assert labels["title"] == f"relevance-{kind}"
    assert (labels["licenses"], labels["version"], labels["revision"]) == ("Apache-2.0", "${VERSION}", "${REVISION}")


def test_only_the_server_has_a_health_check_and_it_asks_what_kserve_asks():
    checks = {kind: [rest for word, rest in steps_of(kind) if word == "HEALTHCHECK"] for kind in KINDS}
    assert [kind for kind in KINDS if checks[kind]] == ["serve"]
    runtime = (ROOT / "infra/serving/champion.yaml").read_text()
    assert "path: /v2/health/ready, port: 8080" in runtime
    assert "http://127.0.0.1:8080/v2/health/ready" in checks["serve"][0]


@pytest.mark.parametrize("kind", KINDS)
def test_extras_that_are_installed_exist_and_are_all_locked(kind, tmp_path):
    (asked,) = re.findall(r"print_extras\.py ([\w,]+) > /wanted\.txt", (ROOT / "images" / kind / "Containerfile").read_text())
    for file in (ROOT / "images/print_extras.py", ROOT / "pyproject.toml"):
        (tmp_path / file.name).write_text(file.read_text())
    printed = subprocess.run([sys.executable, tmp_path / "print_extras.py", asked], capture_output=True, text=True, check=True).stdout
    wanted = {re.split(r"[\[<>=~! ]", line)[0].lower().replace("_", "-") for line in printed.splitlines()}
    locked = {line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {"pydantic", "gcsfs"} | ({"starlette"} if kind == "serve" else {"kfp", "mlflow", "torch", "nncf"}) <= wanted
    assert {"onnxruntime", "openvino"} <= wanted
    assert ("torch" in wanted) == (kind != "serve")
    assert wanted <= locked


def test_the_lister_of_packages_is_locked_to_the_last_one():
    lines = [line for line in (ROOT / "images/sbom.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.\-]+==[\w.]+", line) for line in lines)
    assert any(line.startswith("cyclonedx-bom==") for line in lines)


def test_the_build_sees_only_what_is_listed():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    seen = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        part
        for kind in KINDS
        for word, rest in steps_of(kind)
        if word == "COPY" and not rest.startswith("--from")
        for part in rest.split()[:-1]
    }
    assert all(any(part == one or part.startswith(f"{one}/") for one in seen) for part in copied)
    assert all(one in copied or any(part.startswith(f"{one}/") for part in copied) for one in seen)


def test_make_images_builds_each_with_its_own_torch_and_refuses_a_base_without_digest():
    make = ["make", "--no-print-directory", "images"]  # the tests themselves may run below a make, which then speaks of folders
    said = subprocess.run(
        [*make, "IMAGE_BUILD=echo", "PYTHON_IMAGE=python@sha256:ab", "PIP_CONF=/etc/pip.conf", "REGISTRY=r.example"],
        capture_output=True, text=True, cwd=ROOT, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert said[::2] == [f"== {kind}" for kind in KINDS]
    for kind, line in zip(KINDS, said[1::2], strict=True):
        assert f"-f images/{kind}/Containerfile -t r.example/relevance-{kind}:" in line
        assert "--build-arg PYTHON_IMAGE=python@sha256:ab" in line
        assert line.endswith("--secret id=pip_conf,src=/etc/pip.conf .")
        assert ("--build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu" in line) == (kind == "cpu")
    refused = subprocess.run([*make, "PYTHON_IMAGE=python:3.11"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (refused.returncode, refused.stdout.startswith("error: give PYTHON_IMAGE=REPOSITORY@sha256:DIGEST")) == (2, True)
