# make demo      the main job on embedded defaults: 24 simulated machines deployed over real IPMI and the agent protocol
# make test      everything that CI runs: format, lints, unit and integration tests, real machines in QEMU
# make lint      format, lints, licences and bans of the dependencies
# make e2e       only the real machines (BIOS by iPXE, BIOS by plain PXE, UEFI, kill -9), every verb through OpenStack's
#                client, the clients' proofs (tests/clients), and the iSCSI initiator against the kernel's own target;
#                E2E=name for one of them
# make e2e-ipa   the same road with an unmodified ironic-python-agent from PyPI
# make differential  the same requests to a real Ironic and to Ferric; writes the figures into docs/compatibility.md
# make fuzz      coverage-guided fuzzing of what strangers send us, each target for FUZZ_SECONDS (300); TARGETS=ipmi for one.
#                make test runs the same bodies on the same seeds for a moment (sim/tests/fuzz)
# make openapi   schemathesis against /openapi.json, with the newest microversion and with 1.1
# make perf      the table of docs/performance.md, measured beside a real Ironic, nginx and dnsmasq; ROWS=api,wave for some of it
# make soak      SOAK_MINUTES (30) of churn, faults and overload, and whether anything grows; leaves target/soak/{soak.csv,soak.svg,report.json}
# make bench     the measurements of benches/ with their ratios to the baseline that the first run on this machine saved;
#                SAVE=1 renews it, BENCH='wire nodes' for some of them
# make swarm     NODES=10000 simulated machines from enrolled to removed; report and picture go to target/swarm.
#                ARGS are those of ferric swarm, as in ARGS='--phases enrol,list,delete --rate 200'
# Each installs what it lacks (apt, PyPI, cargo).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.PHONY: soak perf fuzz openapi demo test lint advisories bench e2e e2e-ipa differential tools nextest

LOGS := target/make

# what the integration tests speak to, and a C compiler for SQLite and libpq
TOOLS := gcc libc6-dev pkg-config curl ipmitool openipmi postgresql tftp-hpa isc-dhcp-client \
  busybox-static iproute2 dnsmasq-base xorriso cpio kmod ipxe pxelinux syslinux-common \
  e2fsprogs dosfstools dropbear-bin mdadm libiscsi-bin tgt

demo:
	cargo build --release --bins
	exec target/release/ferric demo $(ARGS)

# The steps end at the first that fails; the closing lines of all runners are printed once more at the end.
test: tools nextest
	@rm -rf $(LOGS) && mkdir -p $(LOGS)
	began=$$SECONDS
	step() { local name=$$1; shift; echo "== $$name: $$*"; local t=$$SECONDS; "$$@" 2>&1 | tee $(LOGS)/$$name.log; echo "$$name: ok in $$((SECONDS - t)) s" >> $(LOGS)/steps; }
	step format cargo fmt --all --check
	step clippy cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	step build cargo build --workspace --bins --tests --locked
	step nextest cargo nextest run --workspace --locked --profile ci
	step parts tests/e2e/run.py build
	step e2e cargo nextest run --workspace --locked --profile e2e
	step doctest cargo test --workspace --locked --doc --quiet
	echo "== closing lines"
	grep -hE '^ +Summary|^ *e2e .*: ok' $(LOGS)/{nextest,e2e}.log
	grep -hE '^test result' $(LOGS)/doctest.log || true
	cat $(LOGS)/steps
	echo "make test: ok in $$((SECONDS - began)) s"

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	command -v cargo-deny > /dev/null || cargo install --locked cargo-deny
	cargo deny check bans licenses sources

# needs the advisory database on GitHub, which not every machine can reach
advisories:
	cargo deny check advisories

e2e: nextest
	cargo build --locked -p ferric --bins
	tests/e2e/run.py build
	cargo nextest run -p ferric -p ferric-drivers --test e2e --test verbs --test clients --test differential --test openapi --test iscsi_lio --locked --profile e2e --success-output immediate $(E2E)

e2e-ipa: nextest
	cargo build --locked -p ferric --bins
	tests/e2e/install.sh
	tests/e2e/ipa/build.sh
	cargo nextest run -p ferric --test e2e --locked --profile ipa

differential:
	scripts/apt.sh gcc libc6-dev pkg-config python3 python3-venv python3-pip
	cargo build --locked -p ferric --bins
	tests/differential/run.py --docs

# cargo-fuzz asks for a nightly compiler only to be let use the sanitizers, which the stable one has as well
FUZZ_SECONDS ?= 300
TARGETS ?= agent dhcp ipmi iscsi
fuzz: nextest
	command -v cargo-fuzz > /dev/null || cargo install --locked cargo-fuzz
	scripts/apt.sh g++
	FERRIC_FUZZ_CORPUS=$(CURDIR)/fuzz/corpus cargo nextest run -p ferric-sim --locked --test fuzz
	for target in $(TARGETS); do
	  RUSTC_BOOTSTRAP=1 cargo fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=5 -rss_limit_mb=1024 -malloc_limit_mb=256
	done

openapi:
	cargo build --locked -p ferric --bins
	tests/openapi/run.py

# the boot of a simulated machine is waiting alone: half a second of it is enough for a load
NODES ?= 1000
swarm:
	scripts/apt.sh gcc libc6-dev pkg-config
	cargo build --release --locked -p ferric
	exec target/release/ferric swarm --nodes $(NODES) --timeout 300 --set sim.boot_delay_min=0.5 --set sim.boot_delay_max=2 \
	  --report target/swarm/report.json --picture target/swarm/report.svg $(ARGS)

BENCH ?= transition commit nodes wire iscsi
SOAK_MINUTES ?= 30
SOAK_NODES ?= 300
soak:
	scripts/apt.sh gcc libc6-dev pkg-config python3 util-linux wrk
	cargo build --release --locked --bins
	benches/soak.py --minutes $(SOAK_MINUTES) --nodes $(SOAK_NODES)

bench:
	scripts/apt.sh gcc libc6-dev pkg-config python3 tgt qemu-utils qemu-block-extra
	began=$$(date +%s)
	for one in $(BENCH); do
	  cargo bench --locked -p ferric -p ferric-drivers --bench $$one
	done
	benches/compare.py --since $$began $(if $(SAVE),--save)

ROWS ?= api,deploys,fleet,wave,events,boot
perf:
	scripts/apt.sh $(TOOLS) python3 python3-venv python3-pip wrk nginx-light
	cargo build --release --locked --bins
	cargo build --release --locked -p ferric-web --example bare
	cargo build --release --locked -p ferric-drivers --examples
	benches/perf/run.py --docs --rows $(ROWS)

tools:
	scripts/apt.sh $(TOOLS)
	tests/e2e/install.sh
	tests/clients/install.sh

nextest:
	command -v cargo-nextest > /dev/null || cargo install --locked cargo-nextest
