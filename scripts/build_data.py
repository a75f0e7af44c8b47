#!/usr/bin/env python3
"""Builds the bundled datasets under data/ from their public sources, and rewrites their rows of data/PROVENANCE.md.

    python3 scripts/build_data.py wordnet      # needs Debian's package wordnet-base
    python3 scripts/build_data.py uci          # needs scikit-learn
    python3 scripts/build_data.py series       # needs statsmodels and pmdarima (installed, or unpacked wheels on PYTHONPATH)

Output is byte-for-byte the same on every run with the same source versions. Only the standard library is used for WordNet.
"""

import argparse
import datetime
import gzip
import hashlib
import importlib.util
import io
import pathlib
import tarfile
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
PROVENANCE = DATA / "PROVENANCE.md"


def record(rows):
    """Replaces or adds the table rows `{path: (source, licence, script)}` of PROVENANCE.md, sorted by path."""
    text = PROVENANCE.read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(text) if line.startswith("| ---")) + 1
    last = first
    while last < len(text) and text[last].startswith("|"):
        last += 1
    table = {line.split("`")[1]: line for line in text[first:last]}
    for path, (source, licence, script) in rows.items():
        blob = (DATA / path).read_bytes()
        digest = hashlib.sha256(blob).hexdigest()
        table[path] = f"| `{path}` | {len(blob)} | {digest} | {source} | {licence} | {script} |"
    text[first:last] = [table[path] for path in sorted(table)]
    PROVENANCE.write_text("\n".join(text) + "\n", encoding="utf-8")


# --- WordNet -----------------------------------------------------------------------------------------------------------------

PARTS = ["noun", "verb", "adj", "adv"]
PART_OF = {"n": 0, "v": 1, "a": 2, "s": 2, "r": 3}

# One direction of each inverse pair is enough: the reader derives hyponyms, instances and meronyms.
RELATIONS = {
    "@": "h",  # hypernym
    "@i": "i",  # instance hypernym
    "#m": "m",  # member holonym
    "#p": "p",  # part holonym
    "#s": "s",  # substance holonym
    "!": "a",  # antonym
    "&": "y",  # similar to
    "+": "d",  # derivationally related
    "^": "e",  # see also
    "=": "t",  # attribute
    ";c": "c",  # domain: topic
    ";r": "r",  # domain: region
    ";u": "u",  # domain: usage
    "*": "n",  # entailment
    ">": "k",  # cause
    "$": "g",  # verb group
    "\\": "l",  # pertainym, or adjective an adverb derives from
}


def split_gloss(gloss):
    """The definition and the quoted examples of a gloss; attributions of examples are dropped."""
    definition, examples, i = "", [], 0
    while i < len(gloss):
        if gloss[i] != '"':
            start = i
            while i < len(gloss) and gloss[i] != '"':
                i += 1
            if not examples:
                definition += gloss[start:i]
            continue
        end = gloss.find('"', i + 1)
        end = len(gloss) if end < 0 else end
        quoted = gloss[i + 1 : end]
        before = definition.rstrip()
        opened = definition.count("(") > definition.count(")")
        separated = before[-1:] in {"", ";", ":"} or (before[-1:] in {",", ".", ")"} and len(quoted.split()) >= 2)
        if examples or (separated and not opened):
            if quoted.strip(" ;,."):
                examples.append(" ".join(quoted.split()))
        else:
            definition += gloss[i : end + 1]
        i = end + 1
    return " ".join(definition.split()).rstrip(" ;:,"), examples


def build_wordnet(source):
    """Writes data/wordnet/wordnet30.bin.

    Layout: the line `EASWN1 <blocks>`, one line `<compressed bytes> <text bytes> <synsets>` a block, then the blocks: raw deflate
    streams of one text line a synset, in file order noun, verb, adj, adv. Fields of a line, separated by tabs: offset; number of
    the lexicographer file; lemmas `word#sense` joined by `|`; relations `<letter><id>,<id>...` joined by a space (ids are line
    numbers over all blocks); definition; then one field an example.
    """
    source = pathlib.Path(source)
    sense = {}
    for part, name in enumerate(PARTS):
        for line in (source / f"index.{name}").read_text(encoding="ascii").splitlines():
            if line.startswith("  "):
                continue
            fields = line.split()
            offsets = fields[-int(fields[2]) :]
            for rank, offset in enumerate(offsets, 1):
                sense[fields[0], part, int(offset)] = rank
    raw = []
    for part, name in enumerate(PARTS):
        for line in (source / f"data.{name}").read_text(encoding="ascii").splitlines():
            if not line.startswith("  "):
                raw.append((part, line))
    number = {(part, int(line[:8])): i for i, (part, line) in enumerate(raw)}
    lines = []
    for part, line in raw:
        head, gloss = line.split(" | ", 1)
        fields = head.split()
        offset, file_number, words = int(fields[0]), int(fields[1]), int(fields[3], 16)
        lemmas = []
        for i in range(words):
            word = fields[4 + 2 * i]
            if part == 2 and word.endswith(")"):
                word = word[: word.rindex("(")]  # the syntactic marker (a), (p) or (ip)
            rank = sense[word.lower(), part, offset]
            lemmas.append(word.replace("_", " ") + f"#{rank}")
        at = 4 + 2 * words
        relations = {}
        for i in range(int(fields[at])):
            symbol, target, kind = fields[at + 1 + 4 * i : at + 4 + 4 * i]
            if symbol in RELATIONS:
                relations.setdefault(RELATIONS[symbol], set()).add(number[PART_OF[kind], int(target)])
        graph = " ".join(k + ",".join(map(str, sorted(v))) for k, v in sorted(relations.items()))
        definition, examples = split_gloss(gloss.strip())
        assert definition, line
        lines.append("\t".join([str(offset), str(file_number), "|".join(lemmas), graph, definition, *examples]))
    size = -(-len(lines) // 4)
    blocks = []
    for start in range(0, len(lines), size):
        chunk = lines[start : start + size]
        text = "".join(line + "\n" for line in chunk).encode("ascii")
        packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
        blocks.append((packer.compress(text) + packer.flush(), len(text), len(chunk)))
    target = DATA / "wordnet"
    target.mkdir(exist_ok=True)
    head = f"EASWN1 {len(blocks)}\n" + "".join(f"{len(b)} {n} {count}\n" for b, n, count in blocks)
    (target / "wordnet30.bin").write_bytes(head.encode("ascii") + b"".join(b for b, _, _ in blocks))
    header = [line for line in (source / "data.noun").read_text(encoding="ascii").splitlines() if line.startswith("  ")]
    licence = "\n".join(line.lstrip().lstrip("0123456789").strip() for line in header)
    (target / "LICENSE").write_text(licence + "\n", encoding="ascii")
    row = ("Debian package wordnet-base 1:3.0-37", "WordNet 3.0 licence (wordnet/LICENSE)", "`scripts/build_data.py wordnet`")
    record({"wordnet/wordnet30.bin": row, "wordnet/LICENSE": row})
    print(f"{len(lines)} synsets, {(target / 'wordnet30.bin').stat().st_size} bytes")


# --- tables and series -------------------------------------------------------------------------------------------------------


def write_table(path, header, rows, provenance):
    """Writes rows of already formatted cells as gzip-compressed CSV without a time stamp, and records the file."""
    text = ",".join(header) + "\n" + "".join(",".join(row) + "\n" for row in rows)
    target = DATA / path
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(gzip.compress(text.encode("utf-8"), 9, mtime=0))
    record({path: provenance})
    print(f"{path}: {len(rows)} rows, {target.stat().st_size} bytes")


def build_uci():
    """Writes data/uci/*.csv.gz: one column a feature, then `class=name|name|...` (a class number) or `target`."""
    from sklearn import datasets

    repository = "UCI Machine Learning Repository, through scikit-learn's `load_{}`"
    for name in ["digits", "iris", "wine", "breast_cancer"]:
        bunch = getattr(datasets, f"load_{name}")()
        features = [str(f).replace(",", ";") for f in bunch.feature_names]
        classes = "class=" + "|".join(str(c) for c in bunch.target_names)
        rows = [[f"{x:.9g}" for x in row] + [str(int(y))] for row, y in zip(bunch.data, bunch.target)]
        origin = (repository.format(name), "CC BY 4.0", "`scripts/build_data.py uci`")
        write_table(f"uci/{name}.csv.gz", [*features, classes], rows, origin)
    bunch = datasets.load_diabetes(scaled=False)
    rows = [[f"{x:.9g}" for x in row] + [f"{y:.9g}"] for row, y in zip(bunch.data, bunch.target)]
    origin = ("Efron et al., Least Angle Regression (2004), through scikit-learn's `load_diabetes(scaled=False)`", "BSD-3-Clause")
    write_table("uci/diabetes.csv.gz", [*bunch.feature_names, "target"], rows, (*origin, "`scripts/build_data.py uci`"))


def package_file(package, path):
    """The bytes of a file inside an importable package, without importing it."""
    folder = importlib.util.find_spec(package).submodule_search_locations[0]
    return (pathlib.Path(folder) / path).read_bytes()


def build_series():
    """Writes data/series/*.csv.gz. Days are counted from 1970-01-01; a missing value is an empty cell."""
    script = "`scripts/build_data.py series`"
    epoch = datetime.date(1970, 1, 1)
    lines = package_file("statsmodels", "datasets/sunspots/sunspots.csv").decode("ascii").split()
    rows = [[cell.strip('"') for cell in line.split(",")] for line in lines[1:]]
    origin = ("NOAA National Geophysical Data Center, yearly sunspot numbers, through statsmodels 0.15", "public domain", script)
    write_table("series/sunspots.csv.gz", ["year", "sunspots"], rows, origin)
    lines = package_file("statsmodels", "datasets/co2/co2.csv").decode("ascii").split()
    rows = []
    for line in lines[1:]:
        day, ppm = line.split(",")
        day = datetime.date(int(day[:4]), int(day[4:6]), int(day[6:]))
        rows.append([str((day - epoch).days), ppm])
    origin = ("Keeling and Whorf (2004), weekly CO2 at Mauna Loa, CDIAC, through statsmodels 0.15", "public domain", script)
    write_table("series/co2.csv.gz", ["day", "ppm"], rows, origin)
    with tarfile.open(fileobj=io.BytesIO(package_file("pmdarima", "datasets/data/msft.tar.gz"))) as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith(".csv") and "/._" not in "/" + m.name)
        lines = archive.extractfile(member).read().decode("ascii").split()
    rows = []
    for line in lines[1:]:
        day, *cells = line.split(",")
        rows.append([str((datetime.date.fromisoformat(day) - epoch).days), *cells[:5]])
    origin = ("Kaggle, B. Marjanovic, Huge Stock Market Dataset (MSFT), through pmdarima 2.1", "not confirmed; the source is said to be CC0 1.0", script)
    write_table("series/stock.csv.gz", ["day", "open", "high", "low", "close", "volume"], rows, origin)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["wordnet", "uci", "series"])
    parser.add_argument("--wordnet-dir", default="/usr/share/wordnet", help="folder with data.noun, index.noun, ...")
    options = parser.parse_args()
    match options.what:
        case "wordnet":
            build_wordnet(options.wordnet_dir)
        case "uci":
            build_uci()
        case "series":
            build_series()


if __name__ == "__main__":
    main()
