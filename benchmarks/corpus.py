"""Random crops from a decode-once store beside decoding the same crops from the files.

    python benchmarks/corpus.py [--seconds 2] [--crops 400]

CPU time of one thread, so that a busy machine changes little. Sound: synthesised music, 30 s a file, written in each format
at 44,100 Hz stereo, and read from there to mono at 22,050 Hz, the store's rate, as training must. The store holds an hour (these files
many times), more than processors cache.
"""
import argparse, os, sys, tempfile, time
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '1'
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import soundfile
from mtssl.audio import load_audio
from mtssl.corpus import RandomCrops, build_corpus
from mtssl.synth import synthesise


def per_cpu_second(fetch, positions, repeat=3):
    "Best of `repeat` rates, in crops a CPU-second, of `fetch` over batches of `positions`"
    def once():
        start = time.process_time()
        for batch in positions: fetch(batch)
        return sum(map(len, positions)) / (time.process_time() - start)
    return max(once() for _ in range(repeat))


def main(seconds, n, files=8):
    rows, waves = [], [w for w, _ in synthesise(files, seconds=30, sr=44100, jobs=1)]
    with tempfile.TemporaryDirectory() as folder:
        for kind in ('wav', 'flac', 'ogg', 'mp3'):
            music = Path(folder, kind)
            music.mkdir()
            for i, wave in enumerate(waves): soundfile.write(music / f'{i}.{kind}', np.stack([wave, wave], 1), 44100)
            corpus = build_corpus(music, Path(folder, f'{kind} store'), jobs=1, quiet=True)
            crops = RandomCrops(corpus, seconds, n=n)
            tracks, starts = crops.plan()
            paths = [music / p for p in corpus.tracks.path]
            def from_file(batch): return [load_audio(paths[tracks[k]], corpus.sr, starts[k] / corpus.sr, seconds) for k in batch]
            rows.append((kind, per_cpu_second(from_file, np.array_split(np.arange(n // 4), max(1, n // 64)), repeat=1)))
        hour = ((f'{i}', corpus[i % files]) for i in range(3600 // 30))
        crops = RandomCrops(build_corpus(hour, Path(folder, 'hour'), quiet=True), seconds, n=16 * n)
        crops.plan()
        store = per_cpu_second(crops.__getitem__, np.array_split(np.arange(16 * n), n))
    print(f'random {seconds:g} s crops, one thread\n\n| read from | crops a CPU-second | store is faster by |\n|---|---:|---:|')
    for kind, rate in rows: print(f'| {kind} files | {rate:,.0f} | {store / rate:,.0f} x |')
    print(f'| store | {store:,.0f} | |')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=2.)
    parser.add_argument('--crops', type=int, default=400)
    a = parser.parse_args()
    main(a.seconds, a.crops)
