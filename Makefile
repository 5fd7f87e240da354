# The project's commands; `make` alone prints this list.
#
#   make demo            the example driver's tests on every link and event loop (needs git, make and Python 3.11+)
#   make test            this project's tests on one Python
#   make check           the whole gate, as CI runs it
#   make format          let ruff rewrite what it can
#   make clean           remove environments and caches
#
# Parts of the gate:
#
#   make lint            ruff; the workflows and forms in .github
#   make types           mypy and pyright, for Linux, macOS and Windows
#   make coverage        this project's tests again, with the coverage of both packages
#   make pythons         the tests on all other Pythons; python-3.12: on that one. On Debian a Python that is not
#                        installed is unpacked from the development suite (as root; 150 MB in .cache)
#   make free-threaded   threads on one blocking port, on a Python without a global lock
#   make oldest          the tests with the oldest dependencies that pyproject.toml allows
#   make plugins         the plugin beside other pytest plugins, as a project installs them
#   make windows         the tests that run on Windows, under Wine, on a pair of COM ports (Debian; installs Wine, as root)
#   make remote          remote ports on real servers, and labgrid (Debian; installs ser2net, as root)
#   make kit             the suites that qualify adapters, as far as they run without any
#   make drivers         a part of `make hil`, in two minutes
#   make docs            the pages as a site in build/docs; a warning is an error, and nothing comes from the network
#   make tutorial        the tutorial, typed into an empty folder where only the built package is installed
#   make sdist           the example driver's tests again, from an unpacked source distribution
#
# Not in the gate:
#
#   make hil             the suites that qualify adapters, on the virtual bench: real drivers, emulated adapters
#                        (Debian; installs QEMU, as root)
#   make windows-long    `make windows`, then the blocking port, 10,000 opens on the pair of COM ports, and other modules
#   make rs485           RS-485 on the PL011s of an emulated ARM board, in five minutes (Debian; installs QEMU, as root)
#   make bench           how fast it is beside the bare system calls and other libraries
#                        (Linux; BENCH='--quick --cases fan-out')
#   make pictures        run what the pictures in docs/ show, and draw them again
#   make dist            the source distribution and the wheel, in dist; see RELEASING.md
#
# Environments are rebuilt when the files named in PINS change, and otherwise used without a network.

VERSIONS := 3.11 3.12 3.13 3.14
FREE_THREADED := 3.14t
LEARNERS := 3.11 3.13
EXAMPLE  := docs/examples/modbus_meter
PINS     := pyproject.toml $(EXAMPLE)/pyproject.toml .ci/constraints.txt .ci/pip .ci/venv Makefile

DEMO  := -e '.[pytest]' -e '$(EXAMPLE)[test]'
TESTS := $(DEMO) hypothesis jinja2 jsonschema markdown-it-py pytest-asyncio pytest-randomly pytest-repeat pytest-timeout \
         pytest-trio pytest-xdist rich sybil tomlkit
PEERS := pyserial pyserial-asyncio-fast serialx aioserial trio-serial
PLUGINS  := hypothesis pytest-asyncio pytest-html pytest-randomly pytest-repeat pytest-rerunfailures pytest-timeout pytest-trio \
            pytest-xdist
EMBEDDED := pytest-embedded pytest-embedded-serial
SITE  := sphinx furo myst-parser rich hypothesis
TOOLS := check-jsonschema coverage mypy 'pyright[nodejs]' ruff zizmor

DEV    := .venvs/dev/bin
FORMS  := $(DEV)/check-jsonschema --quiet --builtin-schema vendor
PYTEST := -m pytest --timeout 120
# Tests wait for half of their time, so there may be more workers than processors.
SPREAD := -n 4 --dist worksteal

# pyright runs on the pinned node, not on what the machine may have.
export PYRIGHT_PYTHON_GLOBAL_NODE := 0

.PHONY: help demo test check lint types coverage pythons free-threaded oldest dist sdist docs pictures tutorial plugins kit remote hil hil-1 hil-2 rs485 drivers windows windows-long bench format clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

demo: .venv/stamp
	cd $(EXAMPLE) && "$(CURDIR)/.venv/bin/python" -m pytest -v --serial-links=mock,pty

test: .venvs/dev/stamp
	$(DEV)/python $(PYTEST) $(SPREAD)

# `coverage` runs what `make remote` runs.
check: lint types coverage pythons free-threaded oldest plugins kit drivers windows docs tutorial demo sdist
	@[ ! -e build/unstable.txt ] || sed 's/^/To be mended, failed beside others and passed alone: /' build/unstable.txt
	@rm -f build/unstable.txt

lint: .venvs/dev/tools.stamp
	$(DEV)/ruff check .
	$(DEV)/ruff format --check .
	$(DEV)/zizmor --offline --quiet --strict-collection . docs/examples/ci/github.yml
	$(FORMS).github-workflows .github/workflows/*.yml docs/examples/ci/github.yml
	$(FORMS).github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(FORMS).gitlab-ci --data-transform gitlab-ci docs/examples/ci/gitlab.yml

types: .venvs/dev/tools.stamp
	for platform in linux darwin win32; do \
	    $(DEV)/mypy --platform $$platform --cache-dir .mypy_cache/$$platform || exit; done
	for platform in Linux Darwin Windows; do \
	    $(DEV)/pyright --pythonpath $(DEV)/python --pythonplatform $$platform || exit; done

# With the servers and the labgrid of `make remote`, which `check` therefore does not run once more.
coverage: .venvs/dev/tools.stamp .venvs/labgrid/stamp
	.ci/ser2net
	$(DEV)/coverage erase
	ANYSERIAL_GATE=1 ANYSERIAL_REMOTE=1 .ci/again $(DEV)/coverage run $(PYTEST) $(SPREAD)
	$(DEV)/coverage combine --quiet
	$(DEV)/coverage report --include 'src/anyserial/*' --fail-under 94
	$(DEV)/coverage report --include 'src/pytest_anyserial/*' --fail-under 94

# All but the one that the coverage is measured on.
pythons: .venvs/dev/stamp
	dev=$$($(DEV)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	for version in $(VERSIONS); do \
	    if [ $$version = $$dev ]; then echo "Python $$version: see make coverage"; \
	    elif .ci/python $$version; then $(MAKE) --no-print-directory python-$$version || exit; \
	    else echo "NOT TESTED on Python $$version"; fi; done

python-%: .venvs/%/stamp
	@.venvs/$*/bin/python -c 'import os, sys; print("Python", *sys.version.split()[:1], os.confstr("CS_GNU_LIBC_VERSION"))'
	.ci/again .venvs/$*/bin/python $(PYTEST) $(SPREAD)

# Without PYTHON_GIL=0 an extension module could bring the lock back.
free-threaded:
	@if .ci/python $(FREE_THREADED); then $(MAKE) --no-print-directory free-threaded-$(FREE_THREADED); \
	else echo "NOT TESTED on a free-threaded Python"; fi

free-threaded-%: .venvs/%/stamp
	PYTHON_GIL=0 .venvs/$*/bin/python $(PYTEST) $(wildcard tests/test_sync_*.py)

kit: .venvs/dev/stamp
	$(DEV)/python $(PYTEST) hil --serial-links=mock,pty

# Where this variable is set, a server that is missing fails the tests that need it, and they move more bytes.
remote: .venvs/dev/stamp .venvs/labgrid/stamp
	.ci/ser2net
	ANYSERIAL_REMOTE=1 $(DEV)/python $(PYTEST) -n 2 $(wildcard tests/test_remote_*.py tests/plugin/test_remote_*.py \
	    tests/plugin/test_labgrid_*.py)

VIRTUAL = $(DEV)/python hil/virtual/bench.py --output build/$@
UNDER   = -- $(DEV)/python $(PYTEST) -p no:randomly --serial-hw=/run/virtual-bench/$(1).toml \
          --serial-artifacts=build/$@/transcripts --serial-unplugs=13

# Two machines, because one has one processor; this kernel, if it can have the adapters, can have them only once.
hil:
	$(MAKE) --no-print-directory --keep-going --jobs 2 hil-1 hil-2

hil-1: ADAPTERS := ftdi:ftdi,cp210x:cp210x
hil-2: ADAPTERS := acm:acm,xr:xr,uart,uart
hil-1 hil-2: .venvs/dev/stamp
	$(VIRTUAL) --where vm --adapters $(ADAPTERS) --prefix "$@  " --timeout 1800 $(call UNDER,hil) hil --ignore hil/virtual \
	    --serial-report=build/$@/report.html --junitxml=build/$@/junit.xml -o junit_family=legacy

# The board has Debian's Python, which takes from this environment what is not compiled. What is sent to a PL011 there is
# gone at once, so that no close finds a sender waiting.
rs485: .venvs/dev/stamp
	$(VIRTUAL) --adapters pl011:pl011 --timeout 300 -- /usr/bin/python3 $(PYTEST) --disable-plugin-autoload -p anyio \
	    -p pytest_anyserial -p timeout --serial-hw=/run/virtual-bench/hil.toml --serial-loops=asyncio,trio \
	    --serial-artifacts=build/$@/transcripts --serial-report=build/$@/report.html --junitxml=build/$@/junit.xml \
	    -o junit_family=legacy --deselect hil/test_close.py::test_a_close_wakes_waiting_calls \
	    $(patsubst %,hil/test_%.py,rs485 byte_path close conformance exclusive rates reconfigure) hil/virtual/test_pl011.py

drivers: .venvs/dev/stamp
	$(VIRTUAL) --timeout 900 $(call UNDER,hil-cut) hil/test_conformance.py hil/test_unplug.py hil/virtual/test_doctor.py \
	    --serial-loops=asyncio -k 'not random'

# Each run has the null modem of COM ports to itself.
WINDOWS := .ci/windows -m pytest -q -p no:cacheprovider -p no:hypothesispytest --timeout 60
METER   := -p no:asyncio -p anyio -p pytest_anyserial --serial-loops=asyncio,trio --rootdir=$(EXAMPLE) $(EXAMPLE)/tests

windows: .venvs/dev/stamp
	.ci/windows -c 'import sys; print("Windows CPython", sys.version)'
	$(WINDOWS) $(addprefix tests/,$(shell cat tests/windows/gate.txt))
	$(WINDOWS) $(METER) --serial-links=mock
	$(WINDOWS) $(METER) --serial-hw=tests/windows/bench.toml

# The blocking port, other modules that run there, and what takes minutes; all modules are collected.
windows-long: windows
	$(WINDOWS) --collect-only -qq tests
	$(WINDOWS) $(addprefix tests/,$(shell cat tests/windows/long.txt))

oldest: .venvs/oldest/stamp
	.ci/again .venvs/oldest/bin/python $(PYTEST) $(SPREAD)

# pytest-embedded has an option of the same name as pytest-repeat.
plugins: .venvs/plugins/older.stamp .venvs/embedded/stamp
	.venvs/plugins/bin/python tests/beside.py anyserial asyncio trio timeout xdist repeat randomly rerun html all
	.venvs/embedded/bin/python tests/beside.py embedded
	.venvs/plugins/bin/python -m tests.beside_runners

dist: .venvs/dist/stamp
	rm -rf dist
	.venvs/dist/bin/python -m hatchling build --directory dist
	.venvs/dist/bin/python .ci/check_dist.py dist

# Unpacked outside of this checkout, so that nothing of it is found by accident.
sdist: .venvs/dev/stamp
	rm -rf build/sdist
	$(DEV)/python -m hatchling build --target sdist --directory build/sdist
	unpacked=$$(mktemp -d); trap 'rm -rf "$$unpacked"' EXIT; \
	tar -xf build/sdist/*.tar.gz -C "$$unpacked" && $(MAKE) --no-print-directory -C "$$unpacked"/*/ demo

docs: .venvs/docs/stamp
	.venvs/docs/bin/python -m sphinx --fail-on-warning --keep-going --fresh-env --quiet docs build/docs
	@echo "build/docs/index.html"

pictures: .venvs/docs/stamp
	.venvs/docs/bin/python docs/screenshots.py

tutorial:
	for version in $(LEARNERS); do \
	    if .ci/python $$version; then $(MAKE) --no-print-directory tutorial-$$version || exit; \
	    else echo "NOT TRIED on Python $$version"; fi; done

tutorial-%: .venvs/%/wheels.stamp
	rm -rf build/wheel
	.venvs/$*/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	.venvs/$*/bin/python tests/walk.py build/wheel/*.whl --python "$$(.ci/python $*)" --find-links .venvs/$*/wheels

bench: .venvs/bench/stamp
	cd tests && "$(CURDIR)/.venvs/bench/bin/python" -m benchmarks $(BENCH)

format: .venvs/dev/tools.stamp
	$(DEV)/ruff check --fix .
	$(DEV)/ruff format .

clean:
	rm -rf .venv .venvs .cache build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*

.PRECIOUS: .venvs/%/stamp .venvs/%/wheels.stamp

.venv/stamp: $(PINS)
	.ci/venv .venv any .ci/constraints.txt $(DEMO)
	touch $@

.venvs/dev/stamp: $(PINS)
	.ci/venv .venvs/dev any .ci/constraints.txt $(TESTS)
	touch $@

.venvs/dev/tools.stamp: .venvs/dev/stamp
	.ci/venv .venvs/dev any .ci/constraints.txt $(TOOLS)
	touch $@

.venvs/oldest/stamp: $(PINS) .ci/oldest.txt
	.ci/venv .venvs/oldest 3.11 .ci/oldest.txt $(TESTS)
	touch $@

.venvs/plugins/stamp: $(PINS)
	.ci/venv .venvs/plugins any .ci/constraints.txt -e '.[pytest]' $(PLUGINS)
	touch $@

# Each version of pytest-asyncio in a folder of its own, with the pytest that it works with.
.venvs/plugins/older.stamp: .venvs/plugins/stamp .ci/pytest-asyncio.txt
	rm -rf .venvs/plugins/older
	while read -r asyncio pytest; do .ci/pip .venvs/plugins install --no-deps "$$asyncio" "$$pytest" \
	    --target ".venvs/plugins/older/$$(echo "$$asyncio" | sed 's/==/-/')" || exit; done <.ci/pytest-asyncio.txt
	touch $@

.venvs/embedded/stamp: $(PINS)
	.ci/venv .venvs/embedded any .ci/constraints.txt -e '.[pytest]' $(EMBEDDED)
	touch $@

# Nothing but the build backend.
.venvs/dist/stamp: $(PINS)
	.ci/venv .venvs/dist any .ci/constraints.txt hatchling
	touch $@

.venvs/docs/stamp: $(PINS)
	.ci/venv .venvs/docs any .ci/constraints.txt -e '.[pytest]' $(SITE)
	touch $@

# What the tutorial installs, so that it needs no network.
.venvs/%/wheels.stamp: .venvs/%/stamp
	.ci/pip .venvs/$* wheel --constraint .ci/constraints.txt --no-build-isolation --wheel-dir .venvs/$*/wheels '.[pytest]'
	rm .venvs/$*/wheels/pytest_anyserial-*
	touch $@

.venvs/bench/stamp: $(PINS) .ci/constraints-bench.txt
	.ci/venv .venvs/bench any .ci/constraints-bench.txt -e '.[pytest]'
	for peer in $(PEERS); do .ci/venv .venvs/bench any .ci/constraints-bench.txt $$peer || echo "NOT INSTALLED: $$peer"; done
	touch $@

# Of its own, because labgrid needs a pyserial of another name that overwrites the files of pyserial.
.venvs/labgrid/stamp: .ci/constraints-labgrid.txt .ci/pip .ci/venv Makefile
	.ci/venv .venvs/labgrid any .ci/constraints-labgrid.txt labgrid
	touch $@

.venvs/%/stamp: $(PINS)
	.ci/venv .venvs/$* $* .ci/constraints.txt $(TESTS)
	touch $@
