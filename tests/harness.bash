# Starts sidecars and their neighbours, waits for conditions, counts checks. Sourced by tests/peers/* and
# examples/*/run, which then write `check` lines from top to bottom; the first one that fails ends the script.
#
# Everything listens on loopback, on ports that were free a moment ago, and lives in $scratch, which is removed at the
# end. Only processes that were started here are ended, by their number.
# shellcheck shell=bash

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d)
logs=$scratch/logs
mkdir "$logs"
pids=()
passed=0
finished=no

# The binary under test: PORTCULLIS names it, else it is built.
if [[ -z ${PORTCULLIS:-} ]]; then
    (cd "$root" && cargo build --release --locked --package portcullis)
    PORTCULLIS=${CARGO_TARGET_DIR:-$root/target}/release/portcullis
fi
portcullis=$(realpath "$PORTCULLIS")

# Seconds that anything may take before it counts as never.
patience=20

portcullis() {
    "$portcullis" "$@"
}

# Ends the script, with everything that a person needs to see why.
fail() {
    echo "FAILED: $1"
    [[ $# -lt 2 ]] || printf '%s\n' "${@:2}" | sed 's/^/    /'
    exit 1
}

# check WHAT EXPECTED ACTUAL
check() {
    [[ $2 == "$3" ]] || fail "$1" "expected: $2" "got:      $3"
    passed=$((passed + 1))
    echo "ok: $1"
}

# check_contains WHAT PART TEXT
check_contains() {
    [[ $3 == *"$2"* ]] || fail "$1" "expected to contain: $2" "got: $3"
    passed=$((passed + 1))
    echo "ok: $1"
}

# check_fails WHAT COMMAND…: the command must exit with an error.
check_fails() {
    local what=$1 output
    shift
    if output=$("$@" 2>&1); then
        fail "$what" "this was to fail, and did not: $*" "$output"
    fi
    passed=$((passed + 1))
    echo "ok: $what"
}

# eventually WHAT COMMAND…: tries until the command succeeds; in vain, it shows what the command printed last.
eventually() {
    local what=$1 last deadline=$((SECONDS + patience))
    shift
    until last=$("$@" 2>&1); do
        ((SECONDS < deadline)) || fail "$what" "not within $patience s; the last try of \`$*\` said:" "$last"
        sleep 0.05
    done
    passed=$((passed + 1))
    echo "ok: $what"
}

# prints EXPECTED COMMAND…: for `eventually`.
prints() {
    local expected=$1 output
    shift
    output=$("$@") || true
    [[ $output == "$expected" ]] || { echo "$output" && return 1; }
}

# free_ports COUNT: prints ports that nobody listens on. Call it as "$(free_ports 3)", which waits until it has let go of
# them. All are held at once, so that they differ. They lie below those that the kernel gives to outgoing connections: one
# of those could take a port between its choice and its use.
free_ports() {
    python3 - "$1" <<'PYTHON'
import pathlib, random, socket, sys

first_outgoing = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
candidates = list(range(20000, max(first_outgoing, 22000)))
random.shuffle(candidates)
held = []
while len(held) < int(sys.argv[1]):
    try:
        held.append(socket.create_server(("127.0.0.1", candidates.pop())))
    except OSError:
        pass
print(*(listener.getsockname()[1] for listener in held))
PYTHON
}

# start NAME COMMAND…: runs in the background; its number is in $started.
start() {
    local name=$1
    shift
    "$@" >"$logs/$name.out" 2>"$logs/$name.err" </dev/null &
    started=$!
    pids+=("$started")
}

# end PID…: tells processes to end, and makes those end that have not within 40 s: a sidecar drains first.
end() {
    local pid deadline=$((SECONDS + 40))
    kill -TERM "$@" 2>/dev/null || true
    for pid in "$@"; do
        while kill -0 "$pid" 2>/dev/null && ((SECONDS < deadline)); do
            sleep 0.05
        done
        kill -KILL "$pid" 2>/dev/null || true
    done
}

# stop PID…: ends processes that `start` started; their exit statuses are in $statuses.
stop() {
    local pid other status left
    end "$@"
    statuses=
    for pid in "$@"; do
        status=0
        wait "$pid" || status=$?
        # shellcheck disable=SC2034 # for the caller
        statuses+=${statuses:+ }$status
        left=()
        for other in "${pids[@]}"; do
            [[ $other == "$pid" ]] || left+=("$other")
        done
        pids=("${left[@]}")
    done
}

is_open() {
    true </dev/tcp/127.0.0.1/"$1"
}

# curl without whatever a user's configuration or environment would add.
get() {
    command curl --disable --noproxy '*' --silent --show-error --max-time 10 "$@"
}

# The status of the answer, or 000 when there is none.
status_of() {
    get --output /dev/null --write-out '%{http_code}' "$@" 2>/dev/null || true
}

# ready HEALTH_PORT
ready() {
    get --fail "http://127.0.0.1:$1/readyz"
}

# metric PORT NAME [LABEL…]: the sum of the samples that have all these labels.
metric() {
    get "http://127.0.0.1:$1/metrics" | python3 -c '
import sys

name, labels = sys.argv[1], sys.argv[2:]
lines = [line for line in sys.stdin if line.startswith((name + "{", name + " "))]
print(sum(int(float(line.split()[-1])) for line in lines if all(label in line for label in labels)))' "${@:2}"
}

# rises PORT BEFORE NAME [LABEL…]: whether the metric is above BEFORE.
rises() {
    local now
    now=$(metric "$1" "${@:3}")
    ((now > $2)) || { echo "${*:3} is $now" && return 1; }
}

clean_up() {
    local code=$?
    # A background process that is ended before it has become its command gets here as well.
    [[ $BASHPID == "$$" ]] || return 0
    if [[ $finished == no ]]; then
        local log
        for log in "$logs"/*; do
            [[ ! -s $log ]] || { echo "--- the end of ${log##*/}" && tail -n 20 "$log"; }
        done
        echo "$passed passed, 1 failed"
        [[ $code != 0 ]] || code=1
    fi
    end "${pids[@]}"
    rm -rf "$scratch"
    exit "$code"
}
trap clean_up EXIT

# The last line of every script.
finish() {
    finished=yes
    echo "$passed passed, 0 failed"
}
