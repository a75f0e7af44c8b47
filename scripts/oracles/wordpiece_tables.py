"""Writes crates/text/src/wordpiece/tables.rs: the character classes of BERT's tokenizer, asked of the reference implementation.

usage: python scripts/oracles/wordpiece_tables.py > crates/text/src/wordpiece/tables.rs

The reference keeps the classes of one fixed Unicode version, so a table made from today's Unicode would differ from the models' own.
"""

from tokenizers import __version__
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

clean = BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
strip = BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
split = BertPreTokenizer()
points = [p for p in range(0x110000) if not 0xD800 <= p <= 0xDFFF]


def ranges(test):
    found = []
    for p in points:
        if test(chr(p)):
            if found and found[-1][1] == p - 1:
                found[-1][1] = p
            else:
                found.append([p, p])
    return found


def table(name, doc, test):
    rows = ranges(test)
    print(f"/// {doc}")
    print("#[rustfmt::skip]")
    print(f"pub(super) const {name}: &[(u32, u32)] = &[")
    line = "   "
    for low, high in rows:
        cell = f" (0x{low:x}, 0x{high:x}),"
        if len(line) + len(cell) > 120:
            print(line)
            line = "   "
        line += cell
    print(line)
    print("];")


print(f"//! Character classes of BERT's tokenizer as inclusive ranges; written by scripts/oracles/wordpiece_tables.py (tokenizers {__version__}).")
print()
table("REMOVED", "Control, format and private characters, which cleaning deletes.", lambda c: clean.normalize_str(c) == "")
print()
table("NONSPACING", "Nonspacing marks, which accent stripping deletes after decomposition.", lambda c: strip.normalize_str(c) == "")
print()
table("PUNCTUATION", "Characters that stand alone as a word.", lambda c: len(split.pre_tokenize_str(f"a{c}a")) == 3)
