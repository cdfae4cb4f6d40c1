# What can be done here; `./justw --list` shows it, `./justw NAME` does it.
# Recipes depend on `setup`, which brings what is missing and does nothing (in a tenth of a second) when all is there.

set positional-arguments

python := ".venv/bin/python"
bin := ".venv/bin"
uv := ".tools/bin/uv"

# Files of tests side by side, as far as the processors go. Not where stacks are started: two may choose the same port.
side_by_side := "-n auto --maxprocesses 4 --dist loadfile"

# Quick ones first: what they find is known within a minute.
checks := "lint types layers dependencies spelling shell yaml rules unit contract repository integration harness scenarios"

# Set-up needs only the standard library: the environment's Python once there is one, before that the system's.
setup_python := if path_exists(justfile_directory() / python) == "true" { python } else { `.tools/bin/uv python find --no-cache --system --no-project --no-python-downloads 'cpython>=3.11'` }

[private]
default:
    @{{ quote(just_executable()) }} --justfile {{ quote(justfile()) }} --list

# Inject the failure modes that exist (or: fm01 fm03 ...) into the real stack and judge every documented claim
[group('game day')]
[no-exit-message]
gameday *names: setup
    @exec {{ python }} -m chaos run "$@"

# Judge a stored run again, offline: same evidence, same verdict
[group('game day')]
[no-exit-message]
judge *run: environment
    @exec {{ python }} -m chaos judge "$@"

# Put right what a killed run left behind, and say what it was
[group('game day')]
[no-exit-message]
sweep *options: environment
    @exec {{ python }} -m chaos sweep "$@"

# Bring the stack up with a development key; prints its address, a curl that works and where the logs are
[group('stack')]
[no-exit-message]
up *options: setup
    @exec {{ python }} -m compose up "$@"

# Take that stack down
[group('stack')]
[no-exit-message]
down *options: environment
    @exec {{ python }} -m compose down "$@"

# Walk one change of a governed document from its proposal to offline verification and roll-back, told as it goes
[group('stack')]
[no-exit-message]
demo *options: setup
    @exec {{ python }} -m compose demo "$@"

# Run every check (or: lint unit ...); names all that failed, not just the first
[group('checks')]
[no-exit-message]
[script('sh')]
test *names: setup
    set -u
    [ $# -gt 0 ] || set -- {{ checks }}
    began=$(date +%s)
    count=0
    failed=
    for check; do
        started=$(date +%s)
        printf '\n=== %s\n' "$check"
        if {{ quote(just_executable()) }} --justfile {{ quote(justfile()) }} --no-deps "$check" </dev/null; then
            printf '=== %s passed in %d s\n' "$check" $(($(date +%s) - started))
        else
            code=$?
            case $code in 130 | 143) exit "$code" ;; esac
            printf '=== %s FAILED (exit code %d)\n' "$check" "$code"
            failed="$failed $check"
        fi
        count=$((count + 1))
    done
    took=$(($(date +%s) - began))
    if [ -n "$failed" ]; then
        printf '\nFAILED:%s (of %d checks, in %d s)\n' "$failed" "$count" "$took"
        exit 1
    fi
    printf '\nAll %d checks passed in %d s.\n' "$count" "$took"

# Rewrite the code the way it is formatted here, and what can be mended by itself
[group('checks')]
format: environment
    @{{ bin }}/ruff format .
    @{{ bin }}/ruff check --fix .
    @{{ quote(just_executable()) }} --justfile {{ quote(justfile()) }} --fmt --unstable

# Formatting and lint, of Python and of this file
[group('checks')]
[no-exit-message]
lint: environment
    @{{ bin }}/ruff format --check .
    @{{ bin }}/ruff check .
    @{{ quote(just_executable()) }} --justfile {{ quote(justfile()) }} --fmt --check --unstable

# Types, strictly
[group('checks')]
[no-exit-message]
types: environment
    @{{ bin }}/mypy

# Who may import whom
[group('checks')]
[no-exit-message]
layers: environment
    @{{ bin }}/lint-imports

# Every dependency is used, everything used is a dependency
[group('checks')]
[no-exit-message]
dependencies: environment
    @{{ bin }}/deptry .

# Spelling
[group('checks')]
[no-exit-message]
spelling: environment
    @{{ bin }}/codespell

# Shell scripts: shellcheck, and a POSIX shell can read them
[group('checks')]
[no-exit-message]
shell: environment
    @{{ bin }}/shellcheck justw .ci/run $(find chaos compose service slo -name '*.sh')
    @sh -n justw

# YAML
[group('checks')]
[no-exit-message]
yaml: environment
    @{{ bin }}/yamllint --strict .

# Alert rules of both profiles against their cases (promtool), routes (amtool), drift from their specification
[group('checks')]
[no-exit-message]
rules *options: setup
    @{{ python }} -m pytest tests/repository/test_slo_*.py "$@"

# Tests of single modules
[group('checks')]
[no-exit-message]
unit *options: setup
    @{{ python }} -m pytest {{ side_by_side }} tests/unit "$@"

# Decoding, canonical form and patches against other implementations, on a million documents (or: --documents N --seed S)
[group('checks')]
[no-exit-message]
fuzz *options: environment
    @exec {{ python }} -m pytest tests/unit/service/test_bytes_generated.py --timeout=0 --documents=1000000 "$@"

# Rate limits of 1 to 6000 a minute, kept for ten minutes of a driven clock by three replicas, the server's clock set at will
limits *options: setup
    @exec {{ python }} -m pytest tests/integration/service/test_rate_limit_script.py --limit-minutes=10 "$@"

# Random lives of proposals, with many people at once, against a model of the design (about a second each; or: --lives N --seed S)
[group('checks')]
[no-exit-message]
lives *options: setup
    @exec {{ python }} -m pytest tests/integration/service/test_life.py --lives=450 "$@"

# What each refusal of a credential takes, 20,000 times for each cause, compared: three minutes (or: --timed N --seed S)
[group('checks')]
[no-exit-message]
timing *options: setup
    @exec {{ python }} -m pytest tests/integration/service/test_authentication_timing.py --timeout=0 -rP --timed=20000 "$@"

# The invariants' checks against a rehearsed gate: the service as it is, and every planted defect that one must refuse
[group('checks')]
[no-exit-message]
rehearse *options: setup
    @exec {{ python }} -m pytest tests/integration/invariants --defects=all "$@"

# The running stack against its published description: Schemathesis, calm and in a fault (or: --cases N)
[group('checks')]
[no-exit-message]
contract *options: setup
    @{{ python }} -m pytest tests/contract "$@"

# Write docs/openapi.json, the description of the API last released; a release does it, nothing else
[group('machine')]
[no-exit-message]
release-api: environment
    @{{ python }} -m tests.contract.description

# What must be true of the repository: documents, names, links, the commands in README
[group('checks')]
[no-exit-message]
repository *options: setup
    @{{ python }} -m pytest {{ side_by_side }} tests/repository --ignore-glob='*/test_slo_*' "$@"

# Tests against real PostgreSQL, Valkey, Toxiproxy
[group('checks')]
[no-exit-message]
integration *options: setup
    @{{ python }} -m pytest tests/integration "$@"

# Tests of the harness itself: killed in every phase, interrupted, no fault injected
[group('checks')]
[no-exit-message]
harness *options: setup
    @{{ python }} -m pytest tests/chaos "$@"

# Every failure mode, and a planted defect for each mitigation that must turn it red
[group('checks')]
[no-exit-message]
scenarios *options: setup
    @{{ python }} -m pytest tests/failure_modes "$@"

# Time the parts of the gate beside the ordinary way, as ratios (or: decode canonical patch ...); never a test
[group('checks')]
[no-exit-message]
bench *topics: environment
    @exec {{ python }} -m benchmarks "$@"

# Install what is missing (the other recipes do it by themselves); --plan only says what that would be
[group('machine')]
[no-exit-message]
setup *options:
    @exec {{ quote(setup_python) }} -m compose.setup "$@"

# Say what is installed, what is missing and how to get it, what this host can and cannot prove
[group('machine')]
[no-exit-message]
doctor: environment
    @exec {{ python }} -m compose.doctor

# Pin all dependencies again, by hash, after a change to pyproject.toml or to compose/setup
[group('machine')]
lock: environment
    {{ uv }} pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --all-extras pyproject.toml --output-file requirements.txt
    for pins in tools go; do {{ uv }} pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 compose/setup/$pins-requirements.in --output-file compose/setup/$pins-requirements.txt; done
    if command -v go >/dev/null; then cd compose/setup/toxiproxy-build && GOTOOLCHAIN=local go mod tidy; fi

# Python packages only: what needs no other program
[no-exit-message]
[private]
environment:
    @exec {{ quote(setup_python) }} -m compose.setup --only environment
