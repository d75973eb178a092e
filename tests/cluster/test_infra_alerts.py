"""Each alert fires on the trouble that it is for, and is silent just before: Prometheus' own promtool plays the series."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

RULES = Path(__file__).parents[2] / "infra/base/alerts.yaml"
pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian package prometheus) is not installed")

JOB = 'namespace="relevance-mlflow", cronjob="mlflow-backup"'
MADE = (f"kube_cronjob_created{{{JOB}}}", "0x4000")
DUMPED = (f"kube_cronjob_status_last_successful_time{{{JOB}}}", "_x60 3600x4000")
UP = ("relevance_mlflow_up", "1x2000")
GPU = 'DCGM_FI_DEV_GPU_UTIL{namespace="relevance", pod="p", gpu="0"}'
POD = 'kube_pod_status_phase{namespace="relevance", pod="p", phase="Pending"}'
Case = tuple[str, list[tuple[str, str]], str, str]
# (alert, series with a value every minute from 0:00 on, when it must be silent, when it must fire); rules are looked at every 5 minutes
CASES: list[Case] = [
    # succeeded at 0:00: 30 hours, and half an hour of patience
    ("RelevanceNightlyLate", [UP, ("relevance_last_success_timestamp_seconds", "0x2000")], "30h20m", "30h40m"),
    # failed from 1:00 on
    ("RelevanceNightlyFailed", [("relevance_last_run_failed", "0x59 1x100")], "59m", "1h10m"),
    ("RelevanceNoNewChampion", [("relevance_champion_timestamp_seconds", "0x21000")], "336h", "338h"),
    ("RelevanceLogQuarantine", [("relevance_quarantined_ratio", "0.02x59 0.021x100")], "59m", "1h10m"),
    # idle from 1:01 on: the mean of half an hour is below 5 of 100 at 1:30, then a quarter of an hour of patience
    ("RelevanceGpuIdle", [(GPU, "90x60 0x100")], "1h30m", "1h50m"),
    ("RelevanceGpuPending", [(POD, "0x60 1x100")], "1h59m", "2h10m"),
    ("RelevanceMlflowDown", [("relevance_mlflow_up", "1x60 0x100")], "1h10m", "1h25m"),
    # a dump at 1:00, or never: 50 hours later, and an hour of patience
    ("RelevanceBackupLate", [MADE, DUMPED], "51h30m", "52h10m"),
    ("RelevanceBackupLate", [MADE], "50h30m", "51h10m"),
]
# where MLflow is away the exporter shows nothing else, and no other alert may fire
AWAY: list[Case] = [
    (alert, [("relevance_mlflow_up", "0x21000")], "340h", "341h")
    for alert in ("RelevanceNightlyLate", "RelevanceNoNewChampion", "RelevanceLogQuarantine")
]


def play(folder: Path, cases: list[Case]) -> subprocess.CompletedProcess[str]:
    (folder / "rules.yaml").write_text(yaml.safe_dump(yaml.safe_load(RULES.read_text(encoding="utf-8"))["spec"]))
    tests = []
    for alert, series, silent, firing in cases:
        num_firing = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
        wanted = [
            {"expr": num_firing, "eval_time": silent, "exp_samples": []},
            {"expr": num_firing, "eval_time": firing, "exp_samples": [{"labels": "{}", "value": 1}]},
        ]
        given = [{"series": name, "values": values} for name, values in series]
        tests.append({"interval": "1m", "input_series": given, "promql_expr_test": wanted})
    (folder / "tests.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "5m", "tests": tests}))
    return subprocess.run(["promtool", "test", "rules", "tests.yaml"], capture_output=True, text=True, cwd=folder, check=False)


def test_every_alert_fires_when_it_must_and_not_before(tmp_path: Path) -> None:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["spec"]["groups"]
    assert {rule["alert"] for group in groups for rule in group["rules"]} == {alert for alert, *_ in CASES}
    done = play(tmp_path, CASES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_where_mlflow_is_away_no_other_alert_fires(tmp_path: Path) -> None:
    """The half of each case that says "fires" fails, and only that; it also shows that a wrong case is noticed."""
    done = play(tmp_path, AWAY)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert (said.count("time: 14d5h"), said.count("time: 14d4h")) == (3, 0), said  # 341 and 340 hours
