# One command per purpose; `make` alone lists them. Each installs the Debian packages it lacks and says so.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo demo-stock test test-examples test-numa test-memory test-otp sanitize faults chaos lint bench microbench instructions deps

# libdw1 is looked for at run time: with it reports name the kind of an optimised trap, and tests expect that.
BUILD_PACKAGES := pkg-config libhwloc-dev libnuma-dev libdw1
DEMO_PACKAGES := wrk curl
OTP_PACKAGES := erlang-base
NUMA_PACKAGES := qemu-system-x86 busybox-static cpio binutils

help: ## lists these targets
	@awk -F ':[^#]*## ' '/^[a-z-]+:[^#]*## / { printf "make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## loads the undying server over HTTP while requests trap, prints what happened
	@scripts/install-deps.sh $(BUILD_PACKAGES) $(DEMO_PACKAGES)
	@scripts/demo.sh

demo-stock: ## puts the same load on the same server written without Bastion
	@scripts/install-deps.sh $(BUILD_PACKAGES) $(DEMO_PACKAGES)
	@scripts/demo-stock.sh

test: ## builds and runs the tests of the package and of Examples
	@scripts/install-deps.sh $(BUILD_PACKAGES)
	@scripts/test.sh

test-examples: ## builds the examples that end by themselves, and runs each
	@scripts/install-deps.sh $(BUILD_PACKAGES)
	@scripts/test-examples.sh

test-numa: ## boots guests with four NUMA nodes under qemu, asserts where workers run and memory lies
	@scripts/install-deps.sh $(BUILD_PACKAGES) $(NUMA_PACKAGES)
	@scripts/test-numa.sh

test-memory: ## boots a guest under qemu, asserts that a program at its memory limit is told; after test-numa, which has the kernel
	@scripts/install-deps.sh $(BUILD_PACKAGES) $(NUMA_PACKAGES)
	@scripts/test-memory-limit.sh

test-otp: ## runs random scenarios on our supervisors and on OTP's, compares (COUNT=2000, SEED)
	@scripts/install-deps.sh $(BUILD_PACKAGES) $(OTP_PACKAGES)
	@scripts/test-otp.sh

sanitize: ## runs the tests under ThreadSanitizer, then under AddressSanitizer
	@scripts/install-deps.sh $(BUILD_PACKAGES)
	@status=0; for kind in thread address; do scripts/sanitize.sh $$kind || status=1; done; exit $$status

lint: ## checks formatting, module arrows, and files (licence header, size, no local paths)
	@scripts/lint.sh

bench: ## runs the same benchmarks on every runtime that is installed; writes docs/PEERS.md and a plot
	@scripts/install-deps.sh $(BUILD_PACKAGES) python3 valgrind binutils
	@Benchmarks/Peers/build.sh
	@Benchmarks/Peers/compare.py
	@Benchmarks/Peers/instructions.py

microbench: ## runs our own benchmarks in release
	@scripts/install-deps.sh $(BUILD_PACKAGES)
	@swift run -c release --disable-build-manifest-caching --package-path Benchmarks bench

chaos: ## kills, stops, exhausts and replaces a guarded server under load, at random; prints what became of every request
	@scripts/install-deps.sh $(BUILD_PACKAGES) python3
	@scripts/chaos.sh

faults: ## every kind of trap in every place, in debug and release, dynamic and static; storms of traps
	@scripts/install-deps.sh $(BUILD_PACKAGES)
	@scripts/fault-matrix.sh

instructions: ## counts instructions an operation with callgrind
	@scripts/install-deps.sh $(BUILD_PACKAGES) valgrind
	@scripts/bench-instructions.sh

deps: ## installs the Debian packages that any of the others needs
	@scripts/install-deps.sh $(BUILD_PACKAGES) $(DEMO_PACKAGES) $(OTP_PACKAGES) $(NUMA_PACKAGES)
