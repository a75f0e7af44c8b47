"""Writes the golden files of crates/text/tests/minilm.rs with sentence-transformers on PyTorch:

  minilm_sentences.txt  200 texts of 1 to 254 tokens (256 with the special ones), one a line
  minilm_sentences.npy  their embeddings, float32 (200, 384)
  minilm_tokens.npy     the last hidden states of the 91st text, special tokens left out, float32 (tokens, 384)

usage: python scripts/oracles/minilm_golden.py GLOSSES.txt     (one gloss a line, as printed by `gloss_lines`)
needs: sentence-transformers, and scripts/fetch_models.sh
"""

import pathlib
import sys

import numpy
import torch
from sentence_transformers import SentenceTransformer, models

root = pathlib.Path(__file__).resolve().parents[2]
folder = str(root / "data/models/all-MiniLM-L6-v2")
transformer = models.Transformer(folder, max_seq_length=256)
pooling = models.Pooling(384, pooling_mode="mean")
model = SentenceTransformer(modules=[transformer, pooling, models.Normalize()], device="cpu")
tokenizer = model.tokenizer


def length(text):
    return len(tokenizer.encode(text, add_special_tokens=False, truncation=False))


glosses = [line.rstrip("\n") for line in open(sys.argv[1], encoding="utf-8")]
texts = ["cat", "[MASK]", "naïve café, 日本", "emoji 😀 and 12.5%", "word " * 300]
at = 0
for i in range(195):
    # Lengths grow slowly at first: most real sentences are short.
    wanted = 1 + round(253 * (i / 194) ** 2)
    words = []
    while True:
        words += glosses[at * 601 % len(glosses)].split()
        at += 1
        if length(" ".join(words)) >= wanted:
            break
    while length(" ".join(words)) > wanted and len(words) > 1:
        words.pop()
    texts.append(" ".join(words))

embeddings = numpy.concatenate([model.encode([text], convert_to_numpy=True, normalize_embeddings=True) for text in texts])
with torch.no_grad():
    features = tokenizer(texts[90], return_tensors="pt")
    hidden = transformer.model(**features).last_hidden_state if hasattr(transformer, "model") else transformer.auto_model(**features).last_hidden_state
golden = root / "crates/text/tests/golden"
(golden / "minilm_sentences.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
numpy.save(golden / "minilm_sentences.npy", embeddings.astype(numpy.float32))
numpy.save(golden / "minilm_tokens.npy", hidden[0, 1:-1].numpy().astype(numpy.float32))
lengths = [length(text) for text in texts]
print(f"{len(texts)} texts of {min(lengths)} to {max(lengths)} tokens; token states {tuple(hidden.shape)}")
