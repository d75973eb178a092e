"""The registry on a real MLflow over SQLite."""

import shutil

import pytest

from components.shared import registry
from components.shared.errors import InputError, TemporaryError

DIGEST = "ab" * 32


def test_a_version_points_at_the_folder_and_is_made_once(tmp_path):
    from mlflow import MlflowClient

    first = registry.register("student", str(tmp_path / "model"), DIGEST, {"ndcg@10": "0.5", "system": "cross_encoder"})
    again = registry.register("student", str(tmp_path / "elsewhere"), DIGEST, {"ndcg@10": "0.6"})
    other = registry.register("student", str(tmp_path / "other"), "cd" * 32, {})
    assert (first, again, other) == ("1", "1", "2")
    version = MlflowClient().get_model_version("student", "1")
    assert version.source == f"file://{tmp_path}/model"
    assert version.tags == {"digest": DIGEST, "ndcg_at_10": "0.5", "system": "cross_encoder"}


def test_aliases_move_and_resolve(tmp_path):
    for number, digest in enumerate([DIGEST, "cd" * 32], start=1):
        registry.register("student", str(tmp_path / f"m{number}"), digest, {})
    registry.set_alias("student", "champion", "1")
    assert registry.resolve("models:/student@champion") == f"file://{tmp_path}/m1"
    registry.set_alias("student", "champion", "2")
    assert registry.resolve("models:/student@champion") == f"file://{tmp_path}/m2"
    assert registry.resolve("models:/student/1") == f"file://{tmp_path}/m1"
    assert registry.alias_version("student", "champion") == ("2", "cd" * 32)


def test_an_alias_that_nobody_set_resolves_to_nothing(tmp_path):
    assert registry.resolve("models:/student@champion") == ""
    registry.register("student", str(tmp_path), DIGEST, {})
    assert registry.resolve("models:/student@champion") == ""
    assert registry.alias_version("student", "champion") == ("", "")


def test_a_folder_resolves_to_itself_without_a_registry(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert registry.resolve(str(tmp_path)) == f"file://{tmp_path}"
    assert registry.resolve("gs://bucket/model") == "gs://bucket/model"
    assert registry.resolve("") == ""


@pytest.mark.parametrize(
    "address", ["models:/student", "models:/student/", "models:/student/latest", "models:/student/9", "models:/student@v1",
                "models:/student@latest", "models:/student@a b", "models:/@champion", "models:/a'b or name='c@champion", "models:/x/1/2"]
)  # fmt: skip
def test_malformed_addresses_are_the_users_mistake(address):
    with pytest.raises(InputError):
        registry.resolve(address)


def test_wrong_digests_and_versions_are_refused(tmp_path):
    with pytest.raises(InputError, match="digest"):
        registry.register("student", str(tmp_path), "' or 1=1", {})
    registry.register("student", str(tmp_path), DIGEST, {})
    with pytest.raises(InputError, match="student"):
        registry.set_alias("student", "champion", "77")


def test_without_an_address_the_store_of_make_run_is_the_registry(tmp_path, monkeypatch):
    registry.register("student", str(tmp_path / "model"), DIGEST, {})
    registry.set_alias("student", "champion", "1")
    (tmp_path / "here/runs").mkdir(parents=True)
    shutil.move(tmp_path / "mlflow.db", tmp_path / "here/runs/mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path / "here")
    assert registry.resolve("models:/student@champion") == f"file://{tmp_path}/model"


def test_no_server_is_temporary_and_no_address_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TemporaryError, match="student"):
        registry.resolve("models:/student@champion")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI"):
        registry.resolve("models:/student@champion")
