# Two workloads that call each other with identities of a real issuer: load generator -> sidecar of the caller ->
# sidecar of the API -> application. Sourced by the scripts of this folder; they start the issuer, let it issue, and
# renew under load.
# shellcheck shell=bash source-path=SCRIPTDIR

source "$(dirname "${BASH_SOURCE[0]}")/../harness.bash"
cd "$scratch"

# shellcheck disable=SC2034 # for those that source this
install=$root/tests/issuers/install
trust_domain=prod.health.internal
caller=spiffe://$trust_domain/ns/claims/sa/adjudicator
api=spiffe://$trust_domain/ns/eligibility/sa/api

# The load generator: PORTCULLIS_BENCH names it, else it is built.
if [[ -z ${PORTCULLIS_BENCH:-} ]]; then
    (cd "$root" && cargo build --release --locked --package portcullis-benches --bin portcullis-bench)
    PORTCULLIS_BENCH=${CARGO_TARGET_DIR:-$root/target}/release/portcullis-bench
fi
bench=$(realpath "$PORTCULLIS_BENCH")

# start_twice NAME PROBE START: runs START, which calls `start`, until PROBE succeeds. Somebody may take a port between
# its choice and its use: the start of an issuer, and no test, is tried twice.
start_twice() {
    local try
    for try in first second; do
        "$3" "$1-$try"
        if (eventually "$1 is up" "$2"); then
            return
        fi
        stop "$started"
    done
    fail "$1 did not start, twice"
}

# publish VOLUME FILE…: makes these files the whole content of a volume, as the kubelet does: a new directory, and one
# rename of the link to it. A file may be given as NAME=FILE.
publish() {
    local volume=$1 data file
    shift
    mkdir -p "$volume"
    data=$(mktemp -d "$volume/..XXXXXXXX")
    for file in "$@"; do
        [[ $file == *=* ]] || file=$(basename "$file")=$file
        cp "${file#*=}" "$data/${file%%=*}"
        [[ -L $volume/${file%%=*} ]] || ln -s "..data/${file%%=*}" "$volume/${file%%=*}"
    done
    local before
    before=$(readlink "$volume/..data" || true)
    ln -s "$(basename "$data")" "$volume/..data_tmp"
    mv -T "$volume/..data_tmp" "$volume/..data"
    [[ -z $before ]] || rm -r "${volume:?}/$before"
}

# start_sidecars CALLER_IDENTITY API_IDENTITY TRUST: the application and both sidecars, and waits for them. The three are
# values of the configuration's `identity`, and of an entry of `trust`.
start_sidecars() {
    read -r app outbound inbound caller_admin caller_metrics caller_health api_admin api_metrics api_health <<<"$(free_ports 9)"
    mkdir -p policy
    cat >policy/api.yaml <<YAML
apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {name: api}
spec:
  target: {identities: ["$api"]}
  allow:
    - name: adjudicator
      from: {identities: ["$caller"]}
      to: {ports: [$app], methods: [GET], paths: ["/"]}
YAML
    cat >api.yaml <<YAML
identity: $2
trust: [$3]
policy: {directory: policy}
inbound:
  - {listen: "127.0.0.1:$inbound", forward: "127.0.0.1:$app", protocol: http}
timeouts: {lameDuck: 0}
admin: {listen: "127.0.0.1:$api_admin"}
metrics: {listen: "127.0.0.1:$api_metrics"}
health: {listen: "127.0.0.1:$api_health"}
YAML
    cat >caller.yaml <<YAML
identity: $1
trust: [$3]
outbound:
  - {listen: "127.0.0.1:$outbound", connect: "127.0.0.1:$inbound", protocol: http, identities: ["$api"]}
timeouts: {lameDuck: 0}
admin: {listen: "127.0.0.1:$caller_admin"}
metrics: {listen: "127.0.0.1:$caller_metrics"}
health: {listen: "127.0.0.1:$caller_health"}
YAML
    # The application serves until its standard input ends, which a pipe that it has open for writing never does.
    [[ -p open ]] || mkfifo open
    running=()
    # shellcheck disable=SC2016 # for the inner shell
    start app bash -c 'exec "$@" <>open' - "$bench" backend --http "127.0.0.1:$app"
    running+=("$started")
    start api "${api_program:-$portcullis}" run --config api.yaml
    running+=("$started")
    start caller "${caller_program:-$portcullis}" run --config caller.yaml
    running+=("$started")
    eventually "the application accepts connections" is_open "$app"
    eventually "the sidecar of the API is ready" ready "$api_health"
    eventually "the sidecar of the caller is ready" ready "$caller_health"
    check "a call is answered" 200 "$(status_of "http://127.0.0.1:$outbound/")"
}

# Ends what start_sidecars started, so that it can be called again.
stop_sidecars() {
    stop "${running[@]}"
    check "application and sidecars end well" "143 0 0" "$statuses"
}

# load_begins: a hundred requests a second through both sidecars, until load_ends. Each answer is compared with the first
# one and matched with its question by number. One run after another, since a run has to know its length beforehand; each
# begins with new connections.
load_begins() {
    local before
    before=$(metric "$api_metrics" portcullis_http_requests_total)
    rm -f load.end
    start load load_until_told
    load=$started
    eventually "the load has begun" rises "$api_metrics" $((before + 100)) portcullis_http_requests_total
}
load_until_told() {
    until [[ -e load.end ]]; do
        "$bench" http --json --quiet --target "http://127.0.0.1:$outbound/" \
            --connections 8 --rate 100 --warm-up 100ms --duration 5s
    done
}

# load_ends WHAT: no request may have failed.
load_ends() {
    check "the load went on while $1" yes "$(kill -0 "$load" 2>/dev/null && echo yes)"
    touch load.end
    while kill -0 "$load" 2>/dev/null; do
        sleep 0.1
    done
    stop "$load"
    check "and no request failed" 0 "$statuses"
    python3 - "$logs/load.out" <<'PYTHON'
import json, sys

runs = [json.loads(line) for line in open(sys.argv[1])]
slowest = max(run["latency"]["max_us"] for run in runs) / 1000
print(f"    {sum(run['operations'] for run in runs):.0f} requests, slowest {slowest:.1f} ms")
PYTHON
}

# under_load TIMES WHAT ROUND: calls ROUND with 0, 1, 2… under load.
under_load() {
    local number
    load_begins
    for ((number = 0; number < $1; number++)); do
        "$3" "$number"
    done
    load_ends "$2, $1 times"
}

# The serial number of a leaf, written as the sidecar writes it.
serial_of() {
    local serial
    serial=$(openssl x509 -noout -serial -in "$1")
    serial=${serial#serial=}
    echo "${serial,,}"
}

# The serial number of the identity that a sidecar has, by its admin port.
serial_at() {
    get "http://127.0.0.1:$1/identity" | python3 -c 'import json, sys; print(json.load(sys.stdin)["certificate"]["serial"])'
}

# published NAME: the serial numbers of all identities that a sidecar has logged, in their order.
published() {
    python3 - "$logs/$1.err" <<'PYTHON'
import json, sys

for line in open(sys.argv[1]):
    fields = json.loads(line)
    fields = fields.get("fields", fields)
    if fields.get("message") == "identity published":
        print(fields["serial"])
PYTHON
}

# taken NAME: a sidecar has the leaf that is in its directory, which goes on record in NAME.issued.
taken() {
    local serial admin=${1}_admin
    serial=$(serial_of "$1/tls.crt")
    echo "$serial" >>"$1.issued"
    # One process that asks again and again: starting one each time takes longer than a renewal.
    python3 - "${!admin}" "$serial" "$patience" <<'PYTHON' || fail "the sidecar of the $1 takes serial $serial"
import http.client, json, sys, time

port, expected, patience = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
deadline = time.monotonic() + patience
while True:
    admin = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    admin.request("GET", "/identity")
    identity = json.load(admin.getresponse())
    if identity["certificate"]["serial"] == expected:
        break
    if time.monotonic() > deadline:
        sys.exit(f"it has {identity}")
    time.sleep(0.01)
PYTHON
}

# each_was_taken NAME: what the issuer issued is, one by one and in its order, what the sidecar published.
each_was_taken() {
    local metrics=${1}_metrics count
    count=$(wc -l <"$1.issued")
    check "the sidecar of the $1 published the $count certificates that it was issued, in their order" \
        "$(<"$1.issued")" "$(published "$1")"
    check "the sidecar of the $1 counted them" "$count" \
        "$(metric "${!metrics}" portcullis_reload_total 'kind="identity"' 'result="success"')"
}

# form DIRECTORY: how an issuer has written a leaf and its key.
form() {
    echo "certificates: $(grep --count 'BEGIN CERTIFICATE' "$1/tls.crt")"
    echo "key: $(sed -n '1s/^-----BEGIN \(.*\)-----$/\1/p' "$1/tls.key")"
    openssl x509 -in "$1/tls.crt" -noout -subject -nameopt RFC2253 \
        -ext subjectAltName,keyUsage,extendedKeyUsage,basicConstraints | sed -E 's/^ +//; s/ +$//' | grep .
}

# refuses_own LABEL WHAT WORDS FILE…: with these files as its identity the caller's sidecar says why it does not take
# them, and goes on with what it has.
refuses_own() {
    local label=$1 what=$2 words=$3 before serial
    shift 3
    before=$(metric "$caller_metrics" portcullis_reload_total 'kind="identity"' "=\"$label\"")
    serial=$(serial_at "$caller_admin")
    publish caller "$@"
    eventually "$what is counted as $label" rises "$caller_metrics" "$before" \
        portcullis_reload_total 'kind="identity"' "=\"$label\""
    check_contains "$what is refused by name" "$words" "$(get "http://127.0.0.1:$caller_admin/identity")"
    check "the last good identity stays" "$serial" "$(serial_at "$caller_admin")"
    check "and serves" 200 "$(status_of "http://127.0.0.1:$outbound/")"
}

# trust_becomes FILE: publishes it as the bundle, and waits until both sidecars have it.
trust_becomes() {
    local name metrics
    local -A before
    for name in caller api; do
        metrics=${name}_metrics
        before[$name]=$(metric "${!metrics}" portcullis_reload_total 'kind="trust"' 'result="success"')
    done
    publish trust bundle.pem="$1"
    for name in caller api; do
        metrics=${name}_metrics
        eventually "the sidecar of the $name takes $1 as its bundle" rises "${!metrics}" "${before[$name]}" \
            portcullis_reload_total 'kind="trust"' 'result="success"'
    done
}

# The sidecar of the API is called with the newest certificate that the caller was issued.
sees_the_last() {
    eventually "the sidecar of the API sees the newest certificate of the caller" called_with "$(tail -n 1 caller.issued)"
}
called_with() {
    [[ $(status_of "http://127.0.0.1:$outbound/") == 200 ]]
    get "http://127.0.0.1:$api_admin/connections" | grep --fixed-strings "\"serial\": \"$1\""
}

has_no_problem() {
    prints '[]' python3 -c 'import json, sys; print(json.load(sys.stdin)["problems"])' < <(get "http://127.0.0.1:$caller_admin/identity")
}

# as_peer DIRECTORY OPTION…: calls the sidecar of the API with a leaf, whoever answers.
as_peer() {
    get --insecure --cert "$1/tls.crt" --key "$1/tls.key" "${@:2}" "https://127.0.0.1:$inbound/"
}

is_shut_out() {
    ! as_peer "$1" --output /dev/null
}

# refuses_peer LABEL WHAT WORDS DIRECTORY: the sidecar of the API does not let such a caller in, and says why.
refuses_peer() {
    local labels=('direction="inbound"' 'result="refused"' "reason=\"$1\"") before
    before=$(metric "$api_metrics" portcullis_tls_handshakes_total "${labels[@]}")
    check_fails "$2 does not get in" as_peer "$4" --fail
    eventually "$2 is counted as $1" rises "$api_metrics" "$before" portcullis_tls_handshakes_total "${labels[@]}"
    check_contains "the log says why" "$3" "$(<"$logs/api.err")"
}
