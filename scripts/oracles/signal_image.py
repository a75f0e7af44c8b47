"""Prints the golden values of the tests in eas-tensor's `signal` and `image` modules, computed with numpy and scipy.

python scripts/oracles/signal_image.py
"""

import numpy as np
from scipy import fft, ndimage

# signal: HTK mel scale, periodic Hann window, whole frames, triangles linear in Hz without area normalisation.
rate, n_fft, hop, bands = 8000, 256, 128, 40
t = np.arange(2000) / rate
chirp = (0.7 * np.sin(2 * np.pi * (300 * t + 4000 * t * t)) + 0.1 * np.cos(2 * np.pi * 1700 * t)).astype(np.float32)
window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
frames = np.lib.stride_tricks.sliding_window_view(chirp.astype(float), n_fft)[::hop] * window
power = np.abs(np.fft.rfft(frames)) ** 2
mel = 2595 * np.log10(1 + rate / 2 / 700)
edges = 700 * (10 ** (np.linspace(0, mel, bands + 2) / 2595) - 1)
hz = np.arange(n_fft // 2 + 1) * rate / n_fft
low, mid, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
filters = np.maximum(0, np.minimum((hz - low) / (mid - low), (high - hz) / (high - mid)))
log_mel = np.log(np.maximum(power @ filters.T, 1e-10))
print("LOG_MEL", log_mel.shape, [(f, b, round(float(log_mel[f, b]), 6)) for f, b in [(0, 0), (0, 6), (3, 17), (7, 20), (13, 39)]])
features = np.concatenate([log_mel.mean(0), log_mel.std(0)])
print("FEATURES", [(i, round(float(features[i]), 6)) for i in [0, 11, 39, 40, 57, 79]])

# image: DCT-II (orthonormal), Gaussian blur with reflected edges.
y, x = np.mgrid[0:8, 0:8]
plane = 127.5 + 40 * np.sin(0.3 * x + 0.2) + 30 * np.cos(0.5 * y + 0.1 * x) + 20 * np.sin(x * y / 80 + 0.7)
dct = fft.dctn(plane, norm="ortho")
print("DCT", [(v, u, float(dct[v, u])) for v, u in [(0, 0), (0, 1), (1, 0), (3, 5), (7, 7)]])
blur = ndimage.gaussian_filter(plane, 1.5, mode="reflect", truncate=3.0)
print("BLUR", [(r, c, float(blur[r, c])) for r, c in [(0, 0), (0, 7), (3, 4), (7, 0), (5, 6)]])
