"""Writes crates/text/tests/golden/wordpiece.json: ids and byte ranges of nasty strings by the reference tokenizer, and a digest of
the ids of every WordNet gloss.

usage: python scripts/oracles/wordpiece_golden.py GLOSSES.txt     (one gloss a line, in the order of eas_data::wordnet)
needs: tokenizers, and data/models/all-MiniLM-L6-v2/tokenizer.json (scripts/fetch_models.sh)
"""

import hashlib
import json
import pathlib
import struct
import sys

from tokenizers import Tokenizer

root = pathlib.Path(__file__).resolve().parents[2]
tokenizer = Tokenizer.from_file(str(root / "data/models/all-MiniLM-L6-v2/tokenizer.json"))
tokenizer.no_padding()
tokenizer.no_truncation()

NASTY = [
    "",
    " ",
    "Hello, World!",
    "don't stop; it's 3.14% (or so)...",
    "naïve café Ångström ÀÉÎÕÜ çñ",
    "e\u0301a\u0300 decomposed",
    "Straße ẞ ﬁn ǅ İstanbul ıŞğ",
    "ΟΔΥΣΣΕΥΣ Σίσυφος",
    "Привет, мир! Ёлка й",
    "日本語のテキスト 中文字符 漢字 𠀀𪜶",
    "한국어 텍스트",
    "עִבְרִית עם ניקוד",
    "اللُّغَة العربية",
    "हिन्दी में पाठ",
    "ภาษาไทย",
    "emoji 😀👍🏽 👨‍👩‍👧 flags 🇵🇹",
    "tab\tnewline\ncarriage\rnull\u0000bell\u0007 zero\u200bwidth bom\ufeff replacement\ufffd",
    "no-break\u00a0space thin\u2009space ideographic\u3000space line\u2028separator",
    "soft\u00adhyphen",
    "dashes - – — ― quotes “ ” ‘ ’ « » ellipsis …",
    "currency $ € £ ¥ math + < = > ^ ` | ~ ± × ÷",
    "a_b-c/d\\e@f#g:h",
    "[CLS] [SEP] [MASK] [PAD] [UNK] [mask] [cls]",
    "word[MASK]word[SEP]",
    "[[MASK]] [MASK",
    "##ing ## #",
    "a" * 100,
    "a" * 101,
    "é" * 100,
    "antidisestablishmentarianism supercalifragilisticexpialidocious",
    "xqzvkjw\u0301 \U00010400",
    "½ ² ³ ① Ⅷ ㎏ ﬀ",
    "ﷺ 한 각",
    "ꙮ ᚠ ሀ ꀀ 𐎀 𝔘𝔫𝔦",
    "x\u0300\u0301\u0302y\u20d0",
    "private \ue000 unassigned \u0378 noncharacter \ufffe",
    "http://example.org/a?b=c&d=%20#frag user@example.org",
    "MiXeD CaSe ALLCAPS camelCase snake_case kebab-case",
    "1,234,567.89 1e-10 0x1F 12:34:56 2024-02-29",
    "۱۲۳ १२३ １２３",
    "「括弧」、。！？；：",
    "Ω K Å",
    "\U0001d7ce\U0001f100 \u1e9b\u0323",
]


def byte_ranges(text, encoding):
    before = [0]
    for c in text:
        before.append(before[-1] + len(c.encode()))
    return [[before[a], before[b]] for a, b in encoding.offsets]


cases = []
for text in NASTY:
    encoding = tokenizer.encode(text, add_special_tokens=False)
    cases.append({"text": text, "ids": encoding.ids, "ranges": byte_ranges(text, encoding)})

glosses = [line.rstrip("\n") for line in open(sys.argv[1], encoding="utf-8")]
digest = hashlib.sha256()
tokens = 0
for encoding in tokenizer.encode_batch(glosses, add_special_tokens=False):
    digest.update(struct.pack(f"<I{len(encoding.ids)}I", len(encoding.ids), *encoding.ids))
    tokens += len(encoding.ids)

golden = {
    "tokenizers": __import__("tokenizers").__version__,
    "cases": cases,
    "glosses": len(glosses),
    "gloss_tokens": tokens,
    "gloss_sha256": digest.hexdigest(),
}
path = root / "crates/text/tests/golden/wordpiece.json"
path.write_text(json.dumps(golden, ensure_ascii=True, indent=None, separators=(",", ":")) + "\n")
print(path, len(cases), "cases,", tokens, "gloss tokens")
