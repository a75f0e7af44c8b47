#!/usr/bin/env bash
# Our indexes beside hnswlib, FAISS, usearch, SymphonyQG and ScaNN on the same vectors; prints Markdown tables.
#
# usage: benches/peers/ann.sh --data PREFIX [flags of ann.py]        PREFIX_base.npy and PREFIX_queries.npy, made by ann_data
# needs: python3 with venv; the libraries are installed once into .venv (git-ignored); EAS_PYTHON names another Python that has them
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python="${EAS_PYTHON:-$root/.venv/bin/python}"
if [[ ! -x $python ]]; then
    python3 -m venv "$root/.venv"
    "$python" -m pip install --quiet numpy hnswlib faiss-cpu usearch
    # Not built for every system; what is missing is left out of the tables.
    "$python" -m pip install --quiet rabitqlib || echo "rabitqlib can't be installed here" >&2
    "$python" -m pip install --quiet scann-core || echo "scann-core can't be installed here" >&2
fi
if [[ -z ${EAS_ANN_SWEEP:-} ]]; then
    (cd "$root" && cargo build --quiet --release -p eas-bench --bin ann_sweep --bin ann_data)
    EAS_ANN_SWEEP=$root/target/release/ann_sweep
fi
# Some systems pin an old kernel of OpenBLAS, which would slow the peers down.
exec env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE "$python" "$root/benches/peers/ann.py" --binary "$EAS_ANN_SWEEP" "$@"
