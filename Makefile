# Two commands do all the set-up: `make run` and `make test`. Everything lands inside this folder.
PYTHON ?= $(shell command -v python3.11 2>/dev/null || command -v python3)
CONFIG ?= pipelines/configs/movielens-100k.yaml
LOCKS  := requirements/main.txt requirements/dev.txt requirements/data.txt
# A uv of the machine's own is used where there is one; otherwise ours goes into .uv/.
UV     := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
export UV_PYTHON_DOWNLOADS := never
# Every step is a process of its own, and half of its start would be compiling torch and its like.
export UV_COMPILE_BYTECODE := 1

COMPILE := $(UV) pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links \
	--python-version 3.11 --custom-compile-command "make lock"

.PHONY: help run test test-faults test-spark test-kafka test-cluster lint images push-images bench bench-serving bench-lookup bench-batching bench-ingest bench-features bench-training bench-compression bench-gpu clean lock install python-3.11
.DEFAULT_GOAL := help

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z -]+:.*## /{split($$1, names, " "); printf "  make %-14s %s\n", names[1], $$2}' $(MAKEFILE_LIST)

install: .venv/.installed .venv-triton/.installed .venv-transformer/.installed  ## make the environments (run and test do it by themselves)

python-3.11:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
		{ echo "make: Python 3.11 is needed; install it, or name one: make PYTHON=/path/to/python3.11"; exit 1; }

.uv/bin/uv: requirements/uv.txt | python-3.11
	@"$(PYTHON)" -m venv .uv || \
		{ rm -rf .uv; echo "make: this Python cannot make environments; on Debian: apt install python3.11-venv"; exit 1; }
	.uv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

.venv/.installed: $(LOCKS) pyproject.toml | python-3.11 $(filter .uv/%,$(UV))
	@test -x .venv/bin/python || $(UV) venv -q --python "$(PYTHON)" .venv
	$(UV) pip sync --python .venv/bin/python --require-hashes $(LOCKS)
	$(UV) pip install -q --python .venv/bin/python --no-deps -e .
	@touch $@

.venv-triton/.installed: requirements/triton.txt | python-3.11 $(filter .uv/%,$(UV))
	@test -x .venv-triton/bin/python || $(UV) venv -q --python "$(PYTHON)" .venv-triton
	$(UV) pip sync --python .venv-triton/bin/python --require-hashes requirements/triton.txt
	@touch $@

# The transformer's own, as in its image: kserve and tritonclient.grpc cannot share a process.
.venv-transformer/.installed: requirements/transformer.txt pyproject.toml | python-3.11 $(filter .uv/%,$(UV))
	@test -x .venv-transformer/bin/python || $(UV) venv -q --python "$(PYTHON)" .venv-transformer
	$(UV) pip sync --python .venv-transformer/bin/python --require-hashes requirements/transformer.txt
	$(UV) pip install -q --python .venv-transformer/bin/python --no-deps -e .
	@touch $@

# The other engine of ingestion, for its lane alone: pyspark is larger than all of ours together.
.venv-spark/.installed: requirements/spark.txt requirements/dev.txt pyproject.toml | python-3.11 $(filter .uv/%,$(UV))
	@test -x .venv-spark/bin/python || $(UV) venv -q --python "$(PYTHON)" .venv-spark
	$(UV) pip sync --python .venv-spark/bin/python --require-hashes requirements/spark.txt requirements/dev.txt
	$(UV) pip install -q --python .venv-spark/bin/python --no-deps -e .
	@touch $@

# The peer of bench-training, older than our own packages.
.venv-recbole/.installed: requirements/recbole.txt | python-3.11 $(filter .uv/%,$(UV))
	@test -x .venv-recbole/bin/python || $(UV) venv -q --python "$(PYTHON)" .venv-recbole
	$(UV) pip sync --python .venv-recbole/bin/python --require-hashes requirements/recbole.txt
	@touch $@

# Apache Kafka's own broker, 44 MB of jars, for its lane alone.
.kafka/.installed: tests/kafka/pom.xml
	@command -v mvn >/dev/null || { echo "make: Maven is needed; on Debian: apt install maven"; exit 1; }
	rm -rf .kafka
	mvn -q -B -f $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/.kafka
	@touch $@

run: install  ## events to recommendations: data, training, compression, a Triton that serves (CONFIG=…)
	.venv/bin/kuberec run $(CONFIG)

# Modules with bounds on time that leave little room, and long ones about what is killed or rolled
# out: a lane of its own, with nothing beside it.
TIMED := $(addprefix tests/integration/,test_faults.py test_feature_faults.py test_rollout_faults.py \
	test_rollout_interrupted.py test_items_refresh.py test_materialize_faults.py test_live_follow.py \
	test_live_faults.py test_tracking_server.py test_training_ranks.py test_embedded.py \
	test_reproducible_version.py test_half_refresh.py \
	test_export_version.py test_folder_version.py test_timed_endpoint.py test_rollout_decisions.py \
	test_broken_compression.py) \
	$(addprefix tests/unit/,test_prune_steps.py test_compression.py test_compression_ledger.py \
	test_quantise_step.py test_quantise_items.py test_large_catalogue.py test_onnx_export.py \
	test_decoder_stages.py)

test: install  ## unit and integration lanes
	.venv/bin/python -m pytest tests/integration tests/unit $(TIMED:%=--ignore=%) \
		-n 2 --dist loadfile --no-loadscope-reorder

test-faults: install  ## servers killed, stores gone, bad canaries, under load and by the clock, compressions from end to end: nothing else may run
	.venv/bin/python -m pytest $(TIMED)

test-spark: .venv-spark/.installed  ## ingestion on a Spark of this machine (needs Java 17) against the same on DuckDB
	.venv-spark/bin/python -m pytest tests/spark

test-kafka: install .kafka/.installed  ## live events from a real Kafka broker of this machine (needs Java 17 and Maven)
	.venv/bin/python -m pytest tests/kafka

test-cluster: install  ## manifests, rights and rollouts against a real API server (KUBECONFIG=…)
	.venv/bin/python -m pytest tests/cluster

lint: install  ## ruff, mypy, hadolint; that the lanes which do not run here can be read
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	for lane in cluster gpu kafka tensorrt; do .venv/bin/python -m pytest -qq --collect-only tests/$$lane >/dev/null || \
		{ .venv/bin/python -m pytest -q --collect-only tests/$$lane; exit 1; }; done
	.venv/bin/hadolint images/*/Dockerfile

images push-images:  ## container images by docker or podman, tagged; pushed (REGISTRY=…)
	@images/build.sh $(if $(filter push-%,$@),--push)

bench: bench-lookup bench-serving  ## measure against named peers; prints ratios, writes benchmarks/results/

bench-serving bench-lookup bench-batching bench-ingest: bench-%: install  ## one of them: every layer of the endpoint, feature lookup, Triton's batching, 50 million events ingested
	.venv/bin/python -m benchmarks.$*

bench-features: install  ## training windows of 20 million events, 1 million users materialised, lookups: beside DuckDB by hand, Feast and Redis
	.venv/bin/python -m benchmarks.feature_windows
	.venv/bin/python -m benchmarks.feature_materialize
	.venv/bin/python -m benchmarks.lookup

bench-training: install .venv-recbole/.installed  ## training to the same quality beside RecBole's SASRec; catalogues of 10 thousand to 10 million items (DATA=folder of ML-1M)
	@test -f "$(DATA)/sequences.txt" || { echo "make: name the folder of MovieLens-1M's sequences.txt: make bench-training DATA=…"; exit 1; }
	.venv/bin/python -m benchmarks.training "$(DATA)"
	.venv/bin/python -m benchmarks.training_scaling

CONFIG_OF_ml-1m = movielens-1m
CONFIG_OF_beauty = amazon-beauty
bench-compression: install  ## the compression ledger of a dozen recipes beside onnxruntime's dynamic quantisation, torch eager and compiled (DATA=folder of ml-1m or beauty)
	@test -f "$(DATA)/sequences.txt" || { echo "make: name the folder of ML-1M's or Beauty's sequences.txt: make bench-compression DATA=…"; exit 1; }
	.venv/bin/python -m benchmarks.compression "$(DATA)" \
		"$(or $(CONFIG),pipelines/configs/$(CONFIG_OF_$(notdir $(DATA:/=))).yaml)"

# No install: on a GPU's machine any Python with torch and the packages of recommender/ will do.
bench-gpu:  ## tokens/s, MFU and memory of a training step on a CUDA device, by dtype and length
	@$(or $(wildcard .venv/bin/python),"$(PYTHON)") -m benchmarks.gpu

lock: | $(filter .uv/%,$(UV))  ## pin every version and hash anew
	$(COMPILE) pyproject.toml --group pipeline --group ingest --group features --group train --group encode \
		--group export --group report --group client --group gateway --group rollout --group kubernetes \
		--group store --group stream --group tracking --group tune -o requirements/main.txt
	$(COMPILE) pyproject.toml -c requirements/main.txt --group dev -o requirements/dev.txt
	$(COMPILE) pyproject.toml -c requirements/main.txt --group train --group encode --group export -o requirements/trainer.txt
	$(COMPILE) pyproject.toml --group transformer -o requirements/transformer.txt
	$(COMPILE) pyproject.toml -c requirements/main.txt --group ingest --group store --group spark -o requirements/spark.txt
	for name in triton data uv; do $(COMPILE) --no-deps requirements/$$name.in -o requirements/$$name.txt; done
	$(COMPILE) requirements/recbole.in -o requirements/recbole.txt

clean:  ## remove environments, caches and runs, after stopping what serves
	-@test ! -x .venv/bin/kuberec || .venv/bin/kuberec stop
	rm -rf .kafka .venv .venv-recbole .venv-spark .venv-triton .venv-transformer .uv .kuberec runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
