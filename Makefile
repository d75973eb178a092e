# Everything a user or a developer calls. `make` alone lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
EXTRAS := pipeline,tracking,cloud,train,onnx,openvino,serve,evaluation,offline-encoder,dev

RECIPE ?= tiny
DATA ?=
DATE ?=
WORKSPACE ?=
SET ?=
TORCH_INDEX ?=
PROFILE ?= laptop
PORT ?= 5000
WORKERS ?= 2
CRON ?=
TIME_ZONE ?=
NAMESPACE ?=

comma := ,
.DEFAULT_GOAL := help
.PHONY: help setup spark run test nightly postgres check bench compile submit schedule unschedule manifests images ui sync status clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  variables: RECIPE=$(RECIPE) DATA=folder DATE=YYYY-MM-DD WORKSPACE=folder SET=\"section.key=value ...\""
	@echo "             TORCH_INDEX=https://download.pytorch.org/whl/cpu (setup) PORT=$(PORT) (ui)"

setup: $(STAMP) ## make .venv with everything in it (TORCH_INDEX= picks a CPU or CUDA build of torch)

# torch first, so that its build is the one asked for and not whatever a dependency pulls; deepspeed last, because it looks at torch
$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11; give PYTHON=python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup 1/3: torch"
	@$(BIN)/python -m pip install --progress-bar on -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch setuptools
	@echo "setup 2/3: the project with $(EXTRAS)"
	@$(BIN)/python -m pip install --progress-bar on -c constraints.txt -e '.[$(EXTRAS)]'
	@echo "setup 3/3: deepspeed (built here)"
	@DS_BUILD_OPS=0 $(BIN)/python -m pip install --progress-bar on --no-build-isolation -c constraints.txt -e '.[deepspeed]'
	@touch $(STAMP)

# 400 MB, which pip builds from source: half a minute that only the comparison with DuckDB needs
spark: $(STAMP) ## add PySpark to .venv, for the tests that compare it with DuckDB (needs Java 17)
	@$(BIN)/python -m pip install --progress-bar on -c constraints.txt -e '.[spark]'

run: $(STAMP) ## run the whole pipeline here, on a made-up shop or on DATA=folder
	@$(BIN)/python -m pipelines run --recipe $(RECIPE) $(if $(DATA),--data '$(DATA)') $(if $(DATE),--date $(DATE)) \
		$(if $(WORKSPACE),--workspace '$(WORKSPACE)') $(foreach one,$(SET),--set '$(one)')

# files of tests share two processes, one thread each: twice the threads on the same cores only wait for each other
test: $(STAMP) ## all tests that need no GPU and no service (WORKERS=2 processes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

nightly: $(STAMP) ## the long tests
	@$(BIN)/python -m pytest -m nightly

postgres: $(STAMP) ## the tests of MLflow on PostgreSQL (needs its programs; adds psycopg2 and Flask-WTF)
	@$(BIN)/python -m pip install --quiet -c constraints.txt psycopg2-binary Flask-WTF==1.3.0
	@$(BIN)/python -m pytest -m postgres

check: $(STAMP) ## lint, types, layers, recipes, compiled pipelines, sizes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright --warnings
	@$(BIN)/lint-imports
	@$(BIN)/python -m pipelines lint
	@$(BIN)/python -m pytest tests/architecture

bench: $(STAMP) ## measure: simulator, extraction, bots, scoring, training, sub-judgments, overhead per task, a first and later runs; then render the tables
	@for one in simulate_shop extract_logs bots score_pairs score_decoder train_teacher train_student sub_judgments simulate_workers kfp_overhead run_times render; do echo "== $$one"; $(BIN)/python benchmarks/$$one.py || exit; done

compile: $(STAMP) ## write runs/pipeline.yaml, the pipeline that `run` executes (PROFILE=cluster or single-gpu adds images and sizes; needs RELEVANCE_{CPU,GPU}_IMAGE)
	@$(BIN)/python -m pipelines compile --recipe $(RECIPE) --profile $(PROFILE) --workspace '$(or $(WORKSPACE),runs/$(RECIPE))' \
		$(if $(DATA),--data '$(DATA)') $(if $(DATE),--date $(DATE)) $(foreach one,$(SET),--set '$(one)')

# PROFILE defaults to laptop for `compile`, and to cluster here: it is passed on only where somebody gave it
CLUSTER = --recipe $(RECIPE) --workspace '$(WORKSPACE)' $(if $(filter-out file,$(origin PROFILE)),--profile $(PROFILE)) \
	$(if $(NAMESPACE),--namespace '$(NAMESPACE)') $(if $(DATA),--data '$(DATA)') $(foreach one,$(SET),--set '$(one)')

submit: $(STAMP) ## run once on the Kubeflow at KFP_HOST (RECIPE=, DATA=gs://..., WORKSPACE=gs://..., NAMESPACE=; needs RELEVANCE_{CPU,GPU}_IMAGE)
	@$(BIN)/python -m pipelines submit $(CLUSTER) $(if $(DATE),--date $(DATE))

schedule: $(STAMP) ## run there every night (CRON='30 2 * * *' TIME_ZONE=Europe/Berlin); again: change the schedule
	@$(BIN)/python -m pipelines schedule $(CLUSTER) $(if $(CRON),--cron '$(CRON)') $(if $(TIME_ZONE),--time-zone $(TIME_ZONE))

unschedule: $(STAMP) ## remove that schedule; its runs stay
	@$(BIN)/python -m pipelines unschedule $(if $(NAMESPACE),--namespace '$(NAMESPACE)')

manifests: $(STAMP) ## render infra/ for dev and production below runs/manifests, and check it
	@mkdir -p runs/manifests
	@for one in dev production; do kubectl kustomize infra/overlays/$$one > runs/manifests/$$one.yaml || exit; done
	@$(BIN)/python -m pytest tests/cluster/test_infra_manifests.py

IMAGES ?= cpu gpu serve
IMAGE_BUILD ?= docker build
PYTHON_IMAGE ?=
PIP_CONF ?=
REGISTRY ?= localhost
CPU_TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
GPU_TORCH_INDEX ?=
REVISION = $(shell git describe --always --abbrev=40 --dirty)
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

images: ## build the images of IMAGES="cpu gpu serve" (PYTHON_IMAGE=...@sha256:..., REGISTRY=...; see images/README.md)
	@case '$(PYTHON_IMAGE)' in *@sha256:*) ;; *) echo "error: give PYTHON_IMAGE=REPOSITORY@sha256:DIGEST, an image with Python 3.11"; exit 2;; esac
	@cpu='$(CPU_TORCH_INDEX)' gpu='$(GPU_TORCH_INDEX)' serve=; for one in $(IMAGES); do eval index=\$$$$one; echo "== $$one"; \
		$(IMAGE_BUILD) -f images/$$one/Containerfile -t $(REGISTRY)/relevance-$$one:$(REVISION) --build-arg PYTHON_IMAGE='$(PYTHON_IMAGE)' \
		--build-arg REVISION=$(REVISION) --build-arg VERSION=$(VERSION) $${index:+--build-arg TORCH_INDEX=$$index} \
		$(if $(PIP_CONF),--secret id=pip_conf$(comma)src=$(PIP_CONF)) . || exit; done

# MLflow's job runners cost 1.7 GB and nothing here uses them
ui: $(STAMP) ## compare runs in MLflow at http://127.0.0.1:5000
	@mkdir -p runs
	@echo "MLflow: http://127.0.0.1:$(PORT)"
	@MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true $(BIN)/mlflow server --host 127.0.0.1 --port $(PORT) --workers 1 \
		--backend-store-uri sqlite:///$(CURDIR)/runs/mlflow.db --artifacts-destination $(CURDIR)/runs/mlartifacts

sync: $(STAMP) ## send to MLflow what could not be sent during a run
	@$(BIN)/python -m pipelines sync $(or $(WORKSPACE),runs)

status: $(STAMP) ## list the runs
	@$(BIN)/python -m pipelines status $(or $(WORKSPACE),runs)

clean: ## remove caches; runs/ and .venv stay
	@rm -rf .pytest_cache .hypothesis .ruff_cache .import_linter_cache *.egg-info
	@find components pipelines tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
