#!/usr/bin/env bash
# A Milvus standalone server on this machine, without Docker: the binary is the one inside the Python package `milvus`.
#
# usage: scripts/milvus.sh start|stop|restart|status|wipe
#   start    downloads the server once (57 MB), starts it and waits until it answers; exit code 3 when it can't be had
#   stop     ends it; what was inserted stays
#   wipe     stops it and deletes its data
# needs: python3 with pip, on Linux x86-64 or macOS. The server listens on all addresses of the machine, without a password: not for a
#        machine that strangers reach.
#
# EAS_MILVUS_PORT (19530) is the port that clients use, EAS_MILVUS_DIR (target/milvus) the folder of the binary, data and logs.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
dir="${EAS_MILVUS_DIR:-$root/target/milvus}"
port="${EAS_MILVUS_PORT:-19530}"
health_port=$((port + 9561 - 9000))
release="milvus==2.3.5"
pid_file="$dir/server.pid"

running() {
    [[ -f $pid_file ]] && kill -0 "$(<"$pid_file")" 2>/dev/null
}

healthy() {
    python3 - "$health_port" <<'PY' 2>/dev/null
import sys, urllib.request
sys.exit("OK" not in urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/healthz", timeout=5).read().decode())
PY
}

fetch() {
    [[ -f $dir/python/milvus/__init__.py ]] && return
    echo "fetching the server ($release, 57 MB)"
    mkdir -p "$dir"
    rm -rf "$dir/wheel" "$dir/python.part"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$dir/wheel" "$release" || return
    python3 - "$dir" <<'PY' || return
import glob, sys, zipfile
for wheel in glob.glob(sys.argv[1] + "/wheel/*.whl"):
    zipfile.ZipFile(wheel).extractall(sys.argv[1] + "/python.part")
PY
    rm -rf "$dir/wheel"
    mv "$dir/python.part" "$dir/python"
}

# Unpacks the binaries and writes the configuration: every part of the server on 127.0.0.1, every port but the client's free to move.
configure() {
    PYTHONPATH="$dir/python" python3 - "$dir/server" "$port" <<'PY'
import socket
import sys
import milvus


class Config(milvus.MilvusServerConfig):
    def try_bind_port(self, port):
        """The package's own takes a port for busy on which a connection was closed a minute ago."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
            return listener
        except OSError:
            listener.close()
            return None


data, port = sys.argv[1], int(sys.argv[2])
config = Config(data_dir=data, proxy_port=port)
for part in ["rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode"]:
    config.set(f"{part}.ip", "127.0.0.1")
config.set("log.level", "warn")
config.set("log.stdout", "false")
config.resolve()
milvus._initialize_data_files(data)
PY
}

start() {
    if running && healthy; then
        echo "milvus is running: http://127.0.0.1:$port"
        return
    fi
    stop >/dev/null
    if ! fetch; then
        echo "the package $release can't be had here (no network, or no build for this system)" >&2
        exit 3
    fi
    if ! configure; then
        echo "milvus can't be set up: is another program using port $port?" >&2
        exit 1
    fi
    python3 - "$dir" "$health_port" >"$pid_file" <<'PY'
import os
import subprocess
import sys

home = sys.argv[1] + "/server"
libraries = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
settings = {"DEPLOY_MODE": "STANDALONE", "METRICS_PORT": sys.argv[2], "MILVUS_RUN_DIR": home + "/run", libraries: home + "/bin"}
# In a session of its own and without the caller's open files, so that it neither ends with the caller nor holds its locks.
with open(sys.argv[1] + "/server.log", "w") as log:
    server = subprocess.Popen(
        [home + "/bin/milvus", "run", "standalone"],
        cwd=home, env=os.environ | settings, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )
print(server.pid)
PY
    for _ in $(seq 180); do
        if ! running; then
            echo "milvus ended at once; the last lines of $dir/server.log:" >&2
            tail -n 20 "$dir/server.log" >&2
            exit 1
        fi
        if healthy; then
            echo "milvus is running: http://127.0.0.1:$port"
            return
        fi
        sleep 1
    done
    echo "milvus didn't answer within 180 s; see $dir/server.log and $dir/server/logs" >&2
    stop
    exit 1
}

stop() {
    if running; then
        local pid
        pid=$(<"$pid_file")
        kill "$pid"
        # With clients connected it would wait for them; its log is on disk, so that it may be ended.
        for wait in $(seq 60); do
            kill -0 "$pid" 2>/dev/null || break
            ((wait == 20)) && kill -KILL "$pid" 2>/dev/null
            sleep 0.5
        done
    fi
    rm -f "$pid_file"
    echo "milvus is stopped"
}

case "${1:-}" in
    start) start ;;
    stop) stop ;;
    restart)
        stop
        start
        ;;
    status)
        if running && healthy; then
            echo "milvus is running: http://127.0.0.1:$port"
        else
            echo "milvus is not running: scripts/milvus.sh start"
            exit 1
        fi
        ;;
    wipe)
        stop
        rm -rf "$dir/server"
        ;;
    *)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
        exit 2
        ;;
esac
