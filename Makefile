# One command for each thing a developer does. Everything that is installed for the tests goes under
# target/ (WEIR_SETUP_DIR and CARGO_TARGET_DIR move it), and is pinned in tests/setup.
SHELL := bash
export CARGO_TARGET_DIR ?= $(CURDIR)/target
export WEIR_SETUP_DIR ?= $(CARGO_TARGET_DIR)/setup
export WEIR_BIN ?= $(CARGO_TARGET_DIR)/release/weir
PYTEST = $(WEIR_SETUP_DIR)/venv/bin/python -m pytest -c tests/pytest.ini tests
# How many tests with clients run side by side; those marked `alone` never do. 0: in one process, for -s and --pdb.
WORKERS ?= 2
SIDE_BY_SIDE = -n $(WORKERS) --dist loadgroup
# What to run: make test-clients ARGS='-k kafkajs'
ARGS ?=
# How long to look for bugs by simulation: make soak MINUTES=30, from a given seed on with FROM=1000
MINUTES ?= 10
FROM ?=

# For how long to fuzz each target, and which: make fuzz TARGET=hostile_commits SECONDS=60
SECONDS ?= 60
TARGET ?= fuzz::tests::hostile

.PHONY: help build setup test test-rust test-clients test-fast test-reference test-upgrade model growth scale soak soak-faults \
    soak-old-data fuzz lint bench clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

build: ## the weir binary, optimised
	cargo build --release --locked

setup: ## everything the tests need beside the binary
	tests/setup

test: ## every test
	@# What the tests need is installed while cargo compiles.
	@trap 'kill 0' INT; tests/setup & setup=$$!; cargo test --release --locked --no-run; built=$$?; wait $$setup && exit $$built
	@$(MAKE) test-rust test-clients
	@echo "Every test has passed."

test-rust: ## unit, property and documentation tests
	cargo test --release --locked

test-clients: build setup ## real clients on real stores
	$(PYTEST) $(SIDE_BY_SIDE) $(ARGS)

test-fast: build setup ## the same without the slow ones
	$(PYTEST) $(SIDE_BY_SIDE) -m "not slow" $(ARGS)

test-reference: ## the client tests against Apache Kafka's own server: that they test Kafka's behaviour
	tests/setup --reference
	$(PYTEST) $(SIDE_BY_SIDE) --reference $(ARGS)

soak-faults: build setup ## nodes, clients and faults as processes, for about 4 times SECONDS: see docs/soak.md
	WEIR_FAULTS_SECONDS=$(SECONDS) $(PYTEST)/test_faults.py -s $(ARGS)

soak-old-data: build setup ## data that gets old while nodes are killed, for MINUTES: see docs/soak.md
	WEIR_OLD_DATA_SECONDS=$$(( $(MINUTES) * 60 )) $(PYTEST)/test_old_data.py -s $(ARGS)

growth: ## a million commits over 1,000 partitions, and that nothing grows: see docs/growth.md
	cargo test --release --locked --test growth -- --ignored --nocapture

scale: ## what 200,000 and 2 million partitions take in memory and in a snapshot: see docs/growth.md
	cargo test --release --locked --test scale -- --include-ignored --nocapture --test-threads 1

test-upgrade: build setup ## a rolling upgrade from the binary of the last version, which takes minutes to compile
	tests/setup --last-version
	WEIR_LAST_BIN="$(WEIR_SETUP_DIR)/last/weir" $(PYTEST)/test_upgrade.py $(ARGS)

model: ## the models of the protocol at larger sizes as well: see docs/model.md
	cargo test --release --locked --test model -- --include-ignored

soak: ## the simulator on new seeds for MINUTES minutes: see docs/simulator.md
	WEIR_SIM_MINUTES=$(MINUTES) $(if $(FROM),WEIR_SIM_FROM=$(FROM)) cargo test --release --locked --lib \
	    sim::tests::no_seed_breaks_an_invariant_for_as_long_as_asked -- --exact --ignored --nocapture

fuzz: ## hostile bytes for every reader, for SECONDS each (docs/fuzzing.md)
	seed=$$(date +%s); echo "WEIR_FUZZ_SEED=$$seed"; \
	    WEIR_FUZZ_SEED=$$seed WEIR_FUZZ_SECONDS=$(SECONDS) \
	    cargo test --release --locked --lib $(TARGET) -- --nocapture --test-threads 2

lint: ## format, spelling, clippy, licences and advisories, documentation: warnings are errors
	tests/setup --lint
	cargo fmt --check
	$(WEIR_SETUP_DIR)/typos/bin/typos
	cargo clippy --release --locked --all-targets -- -D warnings
	@# The advisories come from a repository that not every machine can reach; the rest needs none.
	PATH="$(WEIR_SETUP_DIR)/bin:$$PATH"; cargo deny --locked check licenses bans sources && \
	    if cargo deny fetch db 2> /dev/null; then cargo deny --locked check advisories; \
	    else echo "NOT CHECKED: security advisories, their database cannot be fetched from here"; fi
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps --document-private-items

bench: ## the figures of docs/performance.md and docs/benchmarks.md; with COMPETITORS=1 beside Tansu, S2 lite and Kafka
	tests/setup --bench $(if $(COMPETITORS),--competitors)
	cargo bench --locked --bench weir -- $(if $(COMPETITORS),--competitors)

clean: ## what cargo built; what tests/setup installed stays
	cargo clean --release
