"""`schedule` and `unschedule`: exactly one enabled recurring run of a name, whatever happens in between."""

from types import SimpleNamespace

import pytest
from submission_case import WHAT

from pipelines import recipe, schedule

NIGHT = [*WHAT, "--data", "gs://bucket/shop", "--set", "logs.lag_days=1"]
NAME = "relevance-distillation-nightly"


def test_a_schedule_is_one_recurring_run_with_cron_no_catch_up_concurrency_1_and_the_scheduled_day(server, terminal):
    shown = terminal.ok("schedule", *NIGHT, "--cron", "30 2 * * *", "--time-zone", "Asia/Kolkata")
    (version,), (made,) = server.stored["versions"], server.stored["recurringruns"]
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 21 * * *"}}  # 02:30 at UTC+5:30 is 21:00 UTC
    assert (made["mode"], made["no_catchup"], made["max_concurrency"]) == ("ENABLE", True, "1")
    settings = recipe.load("tiny", ["logs.lag_days=1"])
    assert made["runtime_config"]["parameters"] == {
        **settings,
        "workspace": "gs://bucket/nightly",
        "data": "gs://bucket/shop",
        "date": "[[ScheduledTime.2006-01-02]]",
    }
    assert made["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert (made["display_name"], made["description"]) == (NAME, f"30 2 * * * Asia/Kolkata; {version['description']}")
    assert shown == f"schedule {NAME} created: 30 2 * * * Asia/Kolkata, sent as '0 0 21 * * *' UTC, version {version['display_name']}\n"


def test_scheduling_again_leaves_exactly_one_with_the_new_settings(server, terminal):
    terminal.ok("schedule", *NIGHT, "--cron", "30 2 * * *")
    (first,) = server.stored["recurringruns"]
    server.requests.clear()
    shown = terminal.ok("schedule", *NIGHT, "--cron", "0 4 * * 1-5", "--set", "teacher.num_epochs=9")
    (second,) = server.stored["recurringruns"]
    assert second["recurring_run_id"] != first["recurring_run_id"]
    assert second["trigger"] == {"cron_schedule": {"cron": "0 0 4 * * 1-5"}}
    assert (second["mode"], second["no_catchup"], second["max_concurrency"]) == ("ENABLE", True, "1")
    assert second["runtime_config"]["parameters"]["teacher"]["num_epochs"] == 9
    assert second["pipeline_version_reference"]["pipeline_version_id"] == server.stored["versions"][1]["pipeline_version_id"]
    assert f"schedule {NAME} updated" in shown
    old = f"recurringruns/{first['recurring_run_id']}"
    assert server.writes()[-3:] == [f"POST {old}:disable", "POST recurringruns", f"DELETE {old}"]  # never two enabled ones


def test_an_unchanged_schedule_is_left_as_it_is(server, terminal):
    terminal.ok("schedule", *NIGHT)
    before = [dict(one) for one in server.stored["recurringruns"]]
    server.requests.clear()
    assert f"schedule {NAME} unchanged" in terminal.ok("schedule", *NIGHT)
    assert server.stored["recurringruns"] == before
    assert server.writes() == []


def test_another_account_is_another_schedule_and_none_leaves_the_one_that_stands(server, terminal):
    terminal.ok("schedule", *NIGHT, "--service-account", "relevance-pipeline")
    assert "updated" in terminal.ok("schedule", *NIGHT, "--service-account", "other")
    assert "unchanged" in terminal.ok("schedule", *NIGHT)
    (made,) = server.stored["recurringruns"]
    assert made["service_account"] == "other"


@pytest.mark.parametrize("change", [{"mode": "DISABLE"}, {"no_catchup": False}, {"max_concurrency": "2"}, {"trigger": {}}])
def test_what_somebody_changed_by_hand_is_put_right(server, terminal, change):
    terminal.ok("schedule", *NIGHT)
    server.stored["recurringruns"][0].update(change)
    terminal.ok("schedule", *NIGHT)
    (made,) = server.stored["recurringruns"]
    assert (made["mode"], made["no_catchup"], made["max_concurrency"]) == ("ENABLE", True, "1")
    assert made["trigger"] == {"cron_schedule": {"cron": "0 30 2 * * *"}}


def test_doubles_behind_the_first_page_are_removed_and_other_schedules_stay(server, terminal):
    terminal.ok("schedule", *NIGHT, "--name", "weekly", "--cron", "0 4 * * 0")
    terminal.ok("schedule", *NIGHT)
    (ours,) = (one for one in server.stored["recurringruns"] if one["display_name"] == NAME)
    server.stored["recurringruns"] += [{**ours, "recurring_run_id": f"copy-{number}"} for number in range(4)]
    terminal.ok("schedule", *NIGHT, "--cron", "0 5 * * *")
    crons = {one["display_name"]: one["trigger"]["cron_schedule"]["cron"] for one in server.stored["recurringruns"]}
    assert crons == {"weekly": "0 0 4 * * 0", NAME: "0 0 5 * * *"}
    assert len(server.stored["recurringruns"]) == 2


def test_a_refused_change_leaves_the_old_schedule_enabled(server, terminal):
    terminal.ok("schedule", *NIGHT)
    server.trouble = lambda method, path: 503 if (method, path.rpartition("/")[2]) == ("POST", "recurringruns") else 0
    code, line = terminal.fails("schedule", *NIGHT, "--cron", "0 5 * * *")
    assert (code, "cannot create schedule" in line) == (75, True)
    (old,) = server.stored["recurringruns"]
    assert (old["mode"], old["trigger"]) == ("ENABLE", {"cron_schedule": {"cron": "0 30 2 * * *"}})


def test_an_answer_that_was_lost_does_not_make_two_schedules(server, terminal):
    terminal.ok("schedule", *NIGHT)
    server.loses = lambda method, path: (method, path.rpartition("/")[2]) == ("POST", "recurringruns")
    terminal.ok("schedule", *NIGHT, "--cron", "0 5 * * *")
    (made,) = server.stored["recurringruns"]
    assert (made["mode"], made["trigger"]) == ("ENABLE", {"cron_schedule": {"cron": "0 0 5 * * *"}})


def test_a_zone_with_a_clock_change_says_so(server, terminal):
    shown = terminal.ok("schedule", *NIGHT, "--time-zone", "Europe/Berlin")
    assert "clocks change on " in shown.splitlines()[1]
    shown = terminal.ok("schedule", *NIGHT, "--time-zone", "Europe/Berlin", "--server-time-zone", "Europe/Berlin")
    assert len(shown.splitlines()) == 1
    assert server.stored["recurringruns"][0]["trigger"] == {"cron_schedule": {"cron": "0 30 2 * * *"}}


def test_unschedule_removes_it_and_nothing_else(server, terminal):
    terminal.ok("schedule", *NIGHT)
    terminal.ok("schedule", *NIGHT, "--name", "other")
    assert terminal.ok("unschedule") == f"schedule {NAME} removed\n"
    assert [one["display_name"] for one in server.stored["recurringruns"]] == ["other"]
    assert terminal.ok("unschedule") == f"schedule {NAME} was not there\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*WHAT], "a schedule needs a log that grows; give --data"),
        ([*WHAT, "--data", "gs://bucket/shop", "--set", "logs.lag_days=0"], "give --set logs.lag_days=1"),
        ([*NIGHT, "--cron", "* 2 * * *"], "one run a day"),
        ([*NIGHT, "--time-zone", "Mars/Base"], "time zone 'Mars/Base' is not known"),
        (["--workspace", "/tmp/x", "--data", "gs://bucket/shop"], "give --workspace gs://BUCKET/FOLDER"),
        ([*NIGHT, "--gpu-image", "gpu:1"], "is not pinned"),
    ],
)
def test_nothing_is_sent_when_something_is_wrong_here(server, terminal, arguments, message):
    code, line = terminal.fails("schedule", *arguments)
    assert code == 2
    assert message in line
    assert server.requests == []


def test_a_server_in_trouble_is_75(server, terminal):
    server.trouble = lambda method, path: 503
    for command in (["schedule", *NIGHT], ["unschedule"]):
        assert terminal.fails(*command)[0] == 75


@pytest.mark.parametrize(
    ("mode", "status", "is_on"),
    [("ENABLE", None, True), ("DISABLE", None, False), (None, "ENABLED", True), (None, "DISABLED", False), ("ENABLE", "DISABLED", False)],
)
def test_a_schedule_is_on_when_the_server_says_so_in_either_field(mode, status, is_on):
    assert schedule._is_enabled(SimpleNamespace(mode=mode, status=status)) is is_on
