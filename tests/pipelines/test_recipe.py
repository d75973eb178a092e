"""Recipes: every one loads, sections are checked by their rooms, mistakes are named with their remedy."""

import contextlib
import json
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components.shared.edits import EDITS
from components.shared.errors import InputError
from pipelines import recipe
from pipelines.recipe import SECTIONS, load


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("promotion.system=cross_encoder", "challenger = 'bi_encoder' does not fit promotion.system, which asks for 'cross_encoder'"),
        ("promotion.metric=ndcg@5", "promotion.metric = 'ndcg@5' does not fit evaluation.cutoff, which asks for 'ndcg@10'"),
        ("ranking.model=models:/mine@champion", "ranking.model = 'models:/mine@champion' does not fit promotion.model_name"),
        ("evaluation.splits=[train, test]", "evaluation.splits has 'train', which ranking.splits lacks; change one of them"),
        ("teacher.num_neighbors=99", "teacher.num_neighbors = 99 is above neighbors.num_neighbors = "),
    ],
)
def test_sections_that_disagree_are_refused_before_the_night(override, message):
    with pytest.raises(InputError, match=message):
        recipe.load("tiny", [override])


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_of_the_project_loads_and_each_section_fits_its_room(name):
    settings = load(name)
    assert list(settings) == list(SECTIONS)
    for section, keys in settings.items():
        config = recipe.config_of(section).from_mapping(keys, section=section)
        assert config.model_dump(mode="json", exclude_none=True) == keys


@pytest.mark.parametrize("name", recipe.names())
def test_a_recipe_survives_kfp_where_integers_become_floats_and_null_is_refused(name):
    for section, keys in load(name).items():
        text = json.dumps(keys)
        assert "null" not in text
        as_floats = json.loads(text, parse_int=float)
        config = recipe.config_of(section)
        assert config.from_mapping(as_floats, section=section) == config.from_mapping(keys, section=section)


@pytest.mark.parametrize("name", recipe.names())
def test_students_and_teachers_are_not_asked_to_read_more_than_their_encoders(name):
    settings = load(name)
    assert settings["teacher"]["max_tokens"] <= settings["teacher_encoder"]["max_tokens"]
    for student in ("cross_encoder", "bi_encoder"):
        assert settings[student]["max_tokens"] <= settings["student_encoder"]["max_tokens"]
        assert settings[student]["architecture"] == student


def test_one_key_names_the_model_that_is_ranked_promoted_and_asked_for_near_items(tmp_path):
    own = tmp_path / "my-shop.yaml"
    own.write_text("extends: single_gpu\npromotion: {model_name: my-shop-student}\n")
    settings = load(str(own))
    assert settings["ranking"]["model"] == settings["pool"]["bi_encoder"] == "models:/my-shop-student@champion"
    assert load(str(own), ["promotion.champion_alias=live"])["ranking"]["model"] == "models:/my-shop-student@live"
    with pytest.raises(InputError, match="'num_nearest' = 20 needs 'bi_encoder'"):  # nothing is registered, so there is no champion to ask
        load(str(own), ['promotion.model_name=""'])
    assert load("tiny", ['promotion.model_name=""'])["ranking"]["model"] == ""


def test_recipes_that_users_name_exist():
    assert recipe.names() == ["cluster", "decoder_gpu", "decoder_nodes", "decoder_tiny", "esci_cpu", "robust", "single_gpu", "tiny"]


def test_the_robust_recipe_learns_from_edited_copies_and_reports_on_every_edit():
    settings = load("robust")
    assert settings["cross_encoder"]["counterfactual_share"] == settings["bi_encoder"]["counterfactual_share"] == 1
    assert settings["ranking"]["edits"] == list(EDITS)


def test_extends_takes_the_base_and_changes_only_what_is_written(tmp_path):
    (tmp_path / "base.yaml").write_text("extends: tiny\nteacher: {num_epochs: 5, seed: 11}\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nteacher: {num_epochs: 6}\n")
    teacher = load(str(tmp_path / "mine.yaml"))["teacher"]
    assert (teacher["num_epochs"], teacher["seed"]) == (6, 11)
    assert load(str(tmp_path / "mine.yaml"))["pool"] == load("tiny")["pool"]


def test_set_wins_over_the_recipe_and_is_read_as_yaml():
    settings = load("tiny", ["teacher.learning_rate=2e-5", "pool.num_random=0", "evaluation.splits=[test]", "logs.action_names.tap=click"])
    assert math.isclose(settings["teacher"]["learning_rate"], 2e-5)
    assert settings["pool"]["num_random"] == 0
    assert settings["evaluation"]["splits"] == ["test"]
    assert settings["logs"]["action_names"]["tap"] == "click"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("teachr: {}", "unknown section 'teachr'; known sections: shop, dataset"),
        ("teacher: {num_epoch: 3}", "unknown key 'num_epoch'; known keys: .*num_epochs"),
        ("teacher: {num_epochs: many}", "key 'num_epochs' = 'many'"),
        ("teacher: {num_epochs: 1.5}", "key 'num_epochs' = 1.5"),
        ("teacher: {num_epochs: }", "'teacher.num_epochs' is empty; leave the key out"),
        ("evaluation: {splits: [dev, null]}", "'evaluation.splits' is empty"),
        ("teacher: 3", "section 'teacher' = 3; write `key: value`"),
        ("[1, 2]", "is a list; write `section:`"),
        ("teacher: [", "not valid YAML"),
        ("extends: nowhere", "recipe 'nowhere' is not known; use one of cluster"),
        ("extends: mine.yaml", r"extends itself \(mine -> mine\); remove one `extends`"),
        ("extends: ../{folder}/mine.yaml", "extends itself"),  # the same file under another spelling
        ("extends: [tiny]", r"extends = \['tiny'\]; write the name of one recipe or the path of one YAML file"),
        ("extends: 3", "extends = 3; write the name of one recipe"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("{folder}", tmp_path.name))
    with pytest.raises(InputError, match=message) as caught:
        load(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("teacher.num_epochs", "write section.key=value"),
        ("teacher=3", "write section.key=value"),
        ("teacher..x=3", "write section.key=value"),
        ("coach.num_epochs=3", "unknown section 'coach'"),
        ("teacher.num_epochs=", "is empty"),
        ("teacher.num_epochs=[", "not valid YAML"),
    ],
)
def test_a_mistake_in_an_override_is_named(override, message):
    with pytest.raises(InputError, match=message):
        load("tiny", [override])


@pytest.mark.parametrize(("name", "message"), [("huge", "use one of cluster, decoder_gpu"), ("/nowhere/x.yaml", "does not exist")])
def test_a_recipe_that_is_not_there_is_named(name, message):
    with pytest.raises(InputError, match=message):
        load(name)


@given(
    st.dictionaries(st.text(max_size=8), st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=2)))
)
def test_any_yaml_mapping_either_loads_or_is_an_input_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("recipe") / "any.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with contextlib.suppress(InputError):
        assert list(load(str(path))) == list(SECTIONS)
        return
    with pytest.raises(InputError) as caught:
        load(str(path))
    assert "\n" not in str(caught.value)
