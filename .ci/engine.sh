# For checks that need a container engine. `need_engine DIR` installs one from Debian and starts it
# with its data in DIR where none runs, or says that the check is skipped and ends it;
# `stop_engine` ends what `need_engine` started.

engine=

skip() {
    echo "SKIPPED: $*"
    exit 0
}

engine_answers() {
    timeout 10 docker info >/dev/null 2>&1
}

need_engine() {
    if ! command -v dockerd >/dev/null || ! command -v docker-compose >/dev/null; then
        [ "$(id -u)" = 0 ] || skip "no container engine, and only root could install one"
        { timeout 60 apt-get update && timeout 240 apt-get install -y --no-install-recommends \
            docker.io docker-compose iptables; } >/dev/null 2>&1 </dev/null ||
            skip "apt-get cannot install a container engine"
    fi
    engine_answers && return
    [ "$(id -u)" = 0 ] || skip "no container engine runs, and only root could start one"
    dockerd --data-root "$1" >"$1.log" 2>&1 &
    engine=$!
    for _ in $(seq 30); do
        engine_answers && return
        kill -0 "$engine" 2>/dev/null || break
        sleep 1
    done
    stop_engine
    skip "the container engine does not start here: $(tail -n 1 "$1.log")"
}

stop_engine() {
    [ -z "$engine" ] || { kill "$engine" 2>/dev/null && wait "$engine"; } || true
    engine=
}
