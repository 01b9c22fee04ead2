"""How fast music becomes vectors: multiples of real time a core, in CPU time at one thread; decoding apart.

    python benchmarks/embed.py                             # all encoders
    python benchmarks/embed.py --json nbs/embed_cost.json  # the same, for the notebook

An encoder's figures are for a track of a minute, encoded whole and in windows of 10 s, and for clips of 2 s; "together" is how much faster clips of 2 s are when 16 seconds of them are encoded at once
rather than one by one. Decoding is from a stereo file at 44.1 kHz to mono at 22,050 Hz, as for `mtssl embed`. The cache's figure is for tracks of a minute in mp3,
asked for a second time: their bytes are hashed, and nothing is decoded or encoded. The smallest of some repeats is given.
"""
import os
for name in 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS': os.environ.setdefault(name, '1')

import argparse, json, tempfile, time, warnings
from pathlib import Path
import numpy as np
import soundfile
import torch
from mtssl.music.audio import decode_track
from mtssl.embedding.embedding import embed_wave, embed_waves
from mtssl.embedding.embedder import MusicEmbedder
from mtssl.encoding.encoder import encoders
from mtssl.core.files import versions

warnings.filterwarnings('ignore')
torch.set_num_threads(1)


def least(do, repeats):
    "CPU seconds of `do()`, at best"
    def once():
        start = time.process_time()
        do()
        return time.process_time() - start
    return min(once() for _ in range(repeats))


def music(seconds, sr, seed=0):
    "Gliding partials and noise, float32 `[T]`"
    rng, t = np.random.default_rng(seed), np.arange(int(seconds * sr)) / sr
    return (.1 * sum(np.sin(2 * np.pi * (f * t + 5 * np.sin(t))) for f in rng.uniform(100, 2000, 5)) + .05 * rng.normal(size=len(t))).astype('float32')


def encoding(name, repeats):
    "Times real time of one encoder, and the ratio of clips together to clips one by one"
    torch.manual_seed(0)
    encoder = encoders.make(name).eval()
    track, clips = music(60, encoder.sr), [music(2, encoder.sr, i) for i in range(16)]
    embed_wave(encoder, clips[0])
    one, together = (least(lambda: [*of()], repeats) for of in (lambda: (embed_wave(encoder, c) for c in clips), lambda: embed_waves(encoder, clips)))
    whole, windows = (least(lambda: embed_wave(encoder, track, window=window), repeats) for window in (60., 10.))
    return dict(encoder=name, real_time=round(60 / whole), windows=round(60 / windows), short=round(32 / together), together=round(one / together, 2))


def decoding(extension, folder, repeats):
    "Times real time of one format"
    path = folder/f'track.{extension}'
    sound = np.stack([music(60, 44_100), music(60, 44_100, 1)], 1)
    with soundfile.SoundFile(path, 'w', 44_100, 2) as file: # in blocks: libsndfile's Vorbis encoder crashes on much at once
        for block in np.split(sound, 60): file.write(block)
    return dict(format=extension, real_time=round(60 / least(lambda: decode_track(path, 22_050), repeats)), megabytes=round(path.stat().st_size / 1e6, 2))


def caching(name, folder, tracks):
    "Times real time of tracks asked for once, and again"
    torch.manual_seed(0)
    paths = [folder/f'{i}.mp3' for i in range(tracks)]
    for i, path in enumerate(paths): soundfile.write(path, music(60, 44_100, i), 44_100)
    embedder = MusicEmbedder(encoders.make(name), cache=folder/'cache', jobs=1, quiet=True).fit()
    first, again = (least(lambda: embedder.transform(paths), 1) for _ in range(2))
    return dict(encoder=name, first=round(60 * tracks / first), again=round(60 * tracks / again), ratio=round(first / again))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--encoders', nargs='*', help='names; all by default')
    parser.add_argument('--repeats', type=int, default=3, help='of each')
    parser.add_argument('--json', help='also write the figures here')
    args = parser.parse_args()
    found = dict(encoding=[], decoding=[])
    print(f'{"encoder":14}{"1 minute":>12}{"10 s windows":>14}{"2 s clips":>12}{"together":>12}   (times real time, a core; ratio to one by one)')
    for name in args.encoders or encoders:
        found['encoding'].append(r := encoding(name, args.repeats))
        print(f"{name:14}{r['real_time']:12,}{r['windows']:14,}{r['short']:12,}{r['together']:12.2f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for extension in 'wav', 'flac', 'mp3', 'ogg':
            found['decoding'].append(r := decoding(extension, Path(folder), args.repeats))
            print(f"{extension:14}{r['real_time']:12,}{r['megabytes']:12.2f} MB a minute")
        found['cache'] = r = caching('tcn', Path(folder), 8)
        print(f"mp3 by {r['encoder']}: {r['first']:,} times real time, from the cache {r['again']:,}: {r['ratio']} times as fast")
    if args.json:
        with open(args.json, 'w') as file: json.dump(dict(command=f'python benchmarks/embed.py --json {args.json}', versions=versions(), **found), file, indent=1)
