"""CPU time of the targets beside librosa, at one thread, in one run.

    python benchmarks/targets.py                # a table; ratios are librosa's time over ours
    python benchmarks/targets.py --clips 4 --json table.json

Times are CPU milliseconds a minute of audio, the least of several runs, on synthesised music. `librosa` is one
librosa call a clip and feature, each starting from the wave, as a data set's `__getitem__` would make it;
`shared` hands librosa the spectrum, mel bands and onset strength it needs, computed once a clip.
"""
import os
for name in 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'NUMBA_NUM_THREADS': os.environ[name] = '1'

import argparse, json, time, warnings
import librosa
import numpy as np
import torch
from mtssl.synth import synthesise
from mtssl.analysis import Analysis
from mtssl.targets import Target, targets

warnings.filterwarnings('ignore')
torch.set_num_threads(1)
sr = 22050


def cpu_ms(function, minutes, repeats):
    "Least CPU milliseconds of `function` a minute of audio"
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1000 * min(times) / minutes


def librosa_calls(y, hop):
    "Target name to librosa's call from the wave"
    f, key = librosa.feature, dict(sr=sr, hop_length=hop)
    return dict(
        lps=lambda: librosa.power_to_db(np.abs(librosa.stft(y, hop_length=hop))**2),
        logmel=lambda: librosa.power_to_db(f.melspectrogram(y=y, **key)),
        mfcc=lambda: f.mfcc(y=y, **key),
        cqt=lambda: librosa.amplitude_to_db(np.abs(librosa.cqt(y, tuning=0, **key))),
        chroma_stft=lambda: f.chroma_stft(y=y, tuning=0, **key),
        chroma_cqt=lambda: f.chroma_cqt(y=y, tuning=0, **key),
        spectral_contrast=lambda: f.spectral_contrast(y=y, **key),
        onset=lambda: librosa.onset.onset_strength(y=y, **key),
        tempogram=lambda: f.tempogram(y=y, **key),
        rms=lambda: f.rms(y=y, hop_length=hop))


def librosa_shared(y, hop):
    "What `librosa_calls` computes, from shared intermediates"
    f, key = librosa.feature, dict(sr=sr, hop_length=hop)
    magnitude = np.abs(librosa.stft(y, hop_length=hop))
    power = magnitude**2
    mel = librosa.power_to_db(f.melspectrogram(S=power, sr=sr))
    onset = librosa.onset.onset_strength(S=mel, **key)
    return [librosa.power_to_db(power), mel, f.mfcc(S=mel), onset, f.tempogram(onset_envelope=onset, **key),
            f.chroma_stft(S=power, sr=sr, tuning=0), f.spectral_contrast(S=magnitude, sr=sr), f.rms(y=y, hop_length=hop),
            librosa.amplitude_to_db(np.abs(librosa.cqt(y, tuning=0, **key))), f.chroma_cqt(y=y, tuning=0, **key)]


def several(names, analysis): return [Target(name)(analysis) for name in names]


def training(wave, names):
    "A step of the default encoder: a front-end at hop 512, targets at hop 1024 from the same analysis"
    analysis = Analysis(wave, sr, 512)
    return analysis.logmel, analysis.logcqt, several(names, analysis.every(2))


def measure(wave, repeats):
    "Rows of the table, one a target, then some of them together"
    minutes, clips = wave.numel() / sr / 60, wave.numpy()
    ours = lambda names, hop: cpu_ms(lambda: several(names, Analysis(wave, sr, hop)), minutes, repeats)
    rows = []
    def add(name, names, theirs=None):
        row = {'target': name, 'hop 512': ours(names, 512), 'hop 1024': ours(names, 1024)}
        rows.append(row | ({'librosa 512': theirs, 'ratio': theirs / row['hop 512']} if theirs else {}))
    calls = list(librosa_calls(clips[0], 512))
    for name in [name for name in targets if name != 'clip']:
        add(name, [name], cpu_ms(lambda: [librosa_calls(y, 512)[name]() for y in clips], minutes, 2) if name in calls else None)
    together = {'target': f'these {len(calls)}', 'hop 512': ours(calls, 512), 'hop 1024': ours(calls, 1024)}
    for how, theirs in (('one call each', sum(r['librosa 512'] for r in rows if r['target'] in calls)),
                        ('shared', cpu_ms(lambda: [librosa_shared(y, 512) for y in clips], minutes, 2))):
        rows.append(together | {'target': f'these {len(calls)}, librosa {how}', 'librosa 512': theirs, 'ratio': theirs / together['hop 512']})
    add('every target', [name for name in targets if name != 'clip'])
    step = ['logmel', 'mfcc', 'chroma_cqt', 'spectral_contrast', 'onset', 'tempogram', 'cyclic_tempogram']
    rows.append({'target': 'front-end and 7 targets', 'hop 1024': cpu_ms(lambda: training(wave, step), minutes, repeats)})
    return rows


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--clips', type=int, default=16, help='clips in the batch')
    parser.add_argument('--seconds', type=float, default=6., help='length of a clip')
    parser.add_argument('--repeats', type=int, default=7, help='runs of which the fastest counts')
    parser.add_argument('--json', help='also write the rows here')
    args = parser.parse_args()
    rows = measure(torch.tensor(np.stack([w for w, _ in synthesise(args.clips, args.seconds, sr, jobs=1)])), args.repeats)
    columns = ['hop 512', 'hop 1024', 'librosa 512', 'ratio']
    print(f'CPU ms a minute of audio, 1 thread, {args.clips} clips of {args.seconds:g} s at {sr} Hz; ratio: librosa over mtssl at hop 512')
    print(f"{'target':34}" + ''.join(f'{c:>13}' for c in columns))
    for row in rows: print(f"{row['target']:34}" + ''.join(f'{row[c]:13.1f}' if c in row else f"{'':13}" for c in columns))
    if args.json:
        with open(args.json, 'w') as file: json.dump(rows, file, indent=1)
