#!/bin/sh
# Type-checks with the feature `cuda` every crate that forwards it to candle. No GPU and no installed toolkit are needed: the compiler
# and the headers come from Python wheels of one CUDA release, in a virtual environment that Git ignores. Compiling candle's kernels
# takes 10 to 20 minutes the first time, on one core, and is not part of CI.
#
# usage: scripts/check_cuda.sh               with CUDA_HOME set, that toolkit is used instead of the wheels
# needs: python3 with pip, a C++ compiler; CUDA_COMPUTE_CAP (80) and CARGO_TARGET_DIR (target/cuda) may be set
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

# One release, 13.0: cudarc asks nvcc for its version and refuses one that is newer than the bindings it carries.
wheels="nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96
    nvidia-cuda-cccl==13.0.85 nvidia-cublas==13.1.0.3 nvidia-curand==10.4.0.35"
venv="${EAS_CUDA_VENV:-$root/.venv-cuda}"

if [ -z "${CUDA_HOME:-}" ]; then
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    # Unquoted: one argument a wheel.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: $wheels
    CUDA_HOME=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib") + "/nvidia/cu13")')
    # The wheels have the libraries in lib; build scripts look for lib64.
    [ -e "$CUDA_HOME/lib64" ] || ln -s lib "$CUDA_HOME/lib64"
fi
[ -x "$CUDA_HOME/bin/nvcc" ] || {
    echo "no nvcc in CUDA_HOME, $CUDA_HOME/bin" >&2
    exit 1
}
export CUDA_HOME CUDA_PATH="$CUDA_HOME" CUDA_ROOT="$CUDA_HOME" CUDA_TOOLKIT_ROOT_DIR="$CUDA_HOME"
export CUDA_COMPUTE_CAP="${CUDA_COMPUTE_CAP:-80}"
export PATH="$CUDA_HOME/bin:$PATH"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target/cuda}"

# The crates whose manifest has the feature, so that a new one is checked without a change here.
packages=
for manifest in crates/*/Cargo.toml examples/*/Cargo.toml benches/Cargo.toml tests/Cargo.toml; do
    if grep -q '^cuda = \[' "$manifest"; then
        packages="$packages --package $(sed -n 's/^name = "\(.*\)"$/\1/p' "$manifest" | head -n 1)"
    fi
done
nvcc --version | tail -n 2
echo "cargo check --features cuda$packages"
exec cargo check --locked --features cuda --all-targets $packages
