# CI and developers use the same targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: built-tests help up build docs-ui images test check fmt bench deps test-deps unit kernel integration end-to-end clean

STEP := scripts/step
VENV := .venv-test
IMAGE_DIR ?= $(or $(MARTLET_IMAGE_DIR),/var/lib/martlet/images)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

up: ## install what is missing, build, and serve on 127.0.0.1:8080
	@$(STEP) "Debian packages" scripts/install-packages run
	@$(MAKE) --no-print-directory build
	@exec bin/martlet up $(UP_ARGS)

build: ## release binaries at bin/martlet and bin/envd
	@$(STEP) "build (the first takes some minutes)" scripts/build-release
	@$(STEP) "Swagger UI" scripts/fetch-swagger-ui || echo "    the server runs without it; /docs explains how to install it later"

docs-ui: ## Swagger UI for /docs, from a Python package
	@$(STEP) "Debian packages" scripts/install-packages run
	@$(STEP) "Swagger UI" scripts/fetch-swagger-ui

images: build ## guest kernel and the platform templates minimal and base
	@$(STEP) "images" bin/martlet images --image-dir $(IMAGE_DIR)

deps: ## install the Debian packages for building and running
	@scripts/install-packages run

test-deps: deps
	@$(STEP) "test packages" scripts/install-packages test
	@$(STEP) "Python clients" scripts/test-venv $(VENV)

test: test-deps ## run all tests, including those with real VMs; print the counts
	@$(MAKE) --no-print-directory built-tests images
	@scripts/run-tests all

built-tests:
	@$(STEP) "build programs and tests (the first takes some minutes)" scripts/build-release --tests

unit kernel integration end-to-end: ## run one tier of tests; its packages are installed by make test
	@$(MAKE) --no-print-directory built-tests build
	@scripts/run-tests $@

check: ## check the format, build with warnings as errors, run the unit tests
	@$(STEP) "format" scripts/lint
	@$(STEP) "build (warnings are errors)" scripts/build-release --tests
	@scripts/run-tests unit

fmt: ## format all Swift sources
	@git ls-files '*.swift' | grep -v /Generated/ | xargs swift-format format -i --configuration .swift-format

bench: build images ## measure, as ratios within one run
	@benchmarks/run

clean: ## remove all build products
	rm -rf .build bin $(VENV)
