"""What the targets cost, beside librosa, torchaudio and nnAudio, in one run.

    python benchmarks/targets.py                                     # a table: CPU milliseconds a minute of audio, and ratios
    python benchmarks/targets.py --json nbs/targets_cost.json        # the same, and the section "target" of mtssl/measured.json
    python benchmarks/targets.py --json table.json --figure table.png --measured elsewhere.json
    python benchmarks/targets.py --device cuda --clips 256           # an hour of audio on a GPU, in seconds

Times are CPU time at one thread, on synthesised music, the least of several rounds; each round measures everything once, so that
what slows the machine for a while slows all columns alike. `librosa` is one librosa call a clip and feature, each from the wave, as a
data set's `__getitem__` would make it. `shared` is the same call given the spectrum, mel bands, onset strength, constant-Q transforms
and separated spectra it needs, which are counted once in the line for all together. torchaudio and nnAudio get the whole batch and
are left out where they have no such feature, or where they are not installed (`pip install nnAudio`).
"""
import os
for name in 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'NUMBA_NUM_THREADS': os.environ[name] = '1'

import argparse, json, math, platform, time, warnings
import librosa
import numpy as np
import torch
from mtssl.features.analysis import Analysis
from mtssl.features.medians import median31
from mtssl.music.synth.mix import synthesise
from mtssl.features.targets import Target, targets

from measured import add_option, record

warnings.filterwarnings('ignore')
torch.set_num_threads(1)
names = [name for name in targets if name != 'clip']  # `clip` is a mean of another


def from_wave(y, sr, hop):
    "Target name to librosa's call from the wave"
    f, key, db = librosa.feature, dict(sr=sr, hop_length=hop), librosa.power_to_db
    magnitude = lambda: np.abs(librosa.stft(y, hop_length=hop))
    part = lambda i: db(f.melspectrogram(S=librosa.decompose.hpss(magnitude())[i]**2, sr=sr))
    return dict(
        lps=lambda: db(magnitude()**2), logmel=lambda: db(f.melspectrogram(y=y, **key)), mfcc=lambda: f.mfcc(y=y, **key),
        harmonic=lambda: part(0), percussive=lambda: part(1), spectral_contrast=lambda: f.spectral_contrast(y=y, **key),
        spectral_shape=lambda: [f.spectral_centroid(y=y, **key), f.spectral_bandwidth(y=y, **key), f.spectral_rolloff(y=y, **key), f.spectral_flatness(y=y, hop_length=hop)],
        cqt=lambda: librosa.amplitude_to_db(np.abs(librosa.cqt(y, tuning=0, **key))), chroma_stft=lambda: f.chroma_stft(y=y, tuning=0, **key),
        chroma_cqt=lambda: f.chroma_cqt(y=y, tuning=0, **key), chroma_cens=lambda: f.chroma_cens(y=y, tuning=0, **key),
        tonnetz=lambda: f.tonnetz(chroma=f.chroma_cqt(y=y, tuning=0, **key), sr=sr), onset=lambda: librosa.onset.onset_strength(y=y, **key),
        tempogram=lambda: f.tempogram(y=y, **key), fourier_tempogram=lambda: np.abs(f.fourier_tempogram(y=y, **key)), rms=lambda: f.rms(y=y, hop_length=hop),
        loudness=lambda: db((10**(librosa.perceptual_weighting(magnitude()**2, librosa.fft_frequencies(sr=sr), top_db=None) / 10)).sum(0)),
        prosody=lambda: [librosa.yin(y, fmin=65.4, fmax=2093., **key), f.rms(y=y, hop_length=hop), f.zero_crossing_rate(y, hop_length=hop)])


def intermediates(y, sr, hop):
    "What librosa's features share, computed once"
    magnitude = np.abs(librosa.stft(y, hop_length=hop))
    level = librosa.power_to_db(librosa.feature.melspectrogram(S=magnitude**2, sr=sr))
    cqt = lambda n: np.abs(librosa.cqt(y, sr=sr, hop_length=hop, n_bins=7 * n, bins_per_octave=n, tuning=0))
    return dict(S=magnitude, power=magnitude**2, mel=level, onset=librosa.onset.onset_strength(S=level, sr=sr, hop_length=hop),
                hpss=librosa.decompose.hpss(magnitude), cqt=cqt(12), cqt36=cqt(36))


def from_shared(y, sr, hop, s):
    "Target name to librosa's call from `intermediates`"
    f, key, db = librosa.feature, dict(sr=sr, hop_length=hop), librosa.power_to_db
    S, chroma = s['S'], lambda: f.chroma_cqt(C=s['cqt36'], bins_per_octave=36, **key)
    part = lambda i: db(f.melspectrogram(S=s['hpss'][i]**2, sr=sr))
    return from_wave(y, sr, hop) | dict(
        lps=lambda: db(s['power']), logmel=lambda: s['mel'], mfcc=lambda: f.mfcc(S=s['mel']), harmonic=lambda: part(0), percussive=lambda: part(1),
        spectral_contrast=lambda: f.spectral_contrast(S=S, sr=sr),
        spectral_shape=lambda: [f.spectral_centroid(S=S, sr=sr), f.spectral_bandwidth(S=S, sr=sr), f.spectral_rolloff(S=S, sr=sr), f.spectral_flatness(S=S)],
        cqt=lambda: librosa.amplitude_to_db(s['cqt']), chroma_stft=lambda: f.chroma_stft(S=s['power'], sr=sr, tuning=0), chroma_cqt=chroma,
        chroma_cens=lambda: f.chroma_cens(C=s['cqt36'], bins_per_octave=36, **key), tonnetz=lambda: f.tonnetz(chroma=chroma(), sr=sr), onset=lambda: s['onset'],
        tempogram=lambda: f.tempogram(onset_envelope=s['onset'], **key), fourier_tempogram=lambda: np.abs(f.fourier_tempogram(onset_envelope=s['onset'], **key)),
        loudness=lambda: db((10**(librosa.perceptual_weighting(s['power'], librosa.fft_frequencies(sr=sr), top_db=None) / 10)).sum(0)))


def torchaudio_calls(sr, hop, device):
    "Target name to torchaudio's transform with librosa's parameters"
    import torchaudio.transforms as t
    key, mels = dict(n_fft=2048, hop_length=hop, pad_mode='constant'), dict(n_mels=128, norm='slaney', mel_scale='slaney')
    made = dict(lps=torch.nn.Sequential(t.Spectrogram(**key), t.AmplitudeToDB()), logmel=torch.nn.Sequential(t.MelSpectrogram(sr, **key, **mels), t.AmplitudeToDB()),
                mfcc=t.MFCC(sr, n_mfcc=20, melkwargs=key | mels))
    return {name: m.to(device) for name, m in made.items()}


def nnaudio_calls(sr, hop, device):
    "Target name to nnAudio's module, none without nnAudio"
    try: from nnAudio import features as f
    except ImportError: return {}
    key = dict(sr=sr, hop_length=hop, verbose=False, pad_mode='constant')
    made = dict(lps=f.STFT(output_format='Magnitude', **key), logmel=f.MelSpectrogram(**key), mfcc=f.MFCC(n_mfcc=20, **key), gammatone=f.Gammatonegram(**key), cqt=f.CQT(**key))
    return {name: m.to(device) for name, m in made.items()}


def steps():
    "Name to function of an analysis: what the targets share, in an order in which each needs only those before"
    return {'spectrum of the frames': lambda a: a.power, 'mel bands in dB': lambda a: a.logmel, 'gammatone bands': lambda a: a.gammatone_bands(),
            'harmonic and percussive': lambda a: a.separated_mel(), "the clip's spectrum": lambda a: a.whole(), 'constant-Q, 12 an octave': lambda a: a.cqt,
            'constant-Q, 36 an octave': lambda a: a.cqt_bands(252, 36), 'onset strength': lambda a: a.onset, 'autocorrelation': lambda a: a.autocorrelation(160, round(8.916 * a.sr / a.hop)),
            'tempo spectrum': lambda a: a.tempo_spectrum(round(8.916 * a.sr / a.hop)), 'pitch': lambda a: a.pitch(), 'energy, zero crossings': lambda a: (a.energy, a.zero_crossings),
            'the rest of the targets': lambda a: [Target(name)(a) for name in names]}


class Clock:
    "Least time of each named function over rounds, in milliseconds a minute of audio; wall time with synchronisation on a GPU"
    def __init__(self, device): self.device, self.best = device, {}

    def now(self):
        if self.device == 'cpu': return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def __call__(self, name, function, minutes):
        start = self.now()
        function()
        self.best[name] = min(self.best.get(name, math.inf), 1000 * (self.now() - start) / minutes)


def measure(wave, sr, hop, rounds, theirs):
    "Rows of the table, the line for all together, and what the shared steps take"
    device, clock = wave.device.type, Clock(wave.device.type)
    batches = {'torchaudio': torchaudio_calls(sr, hop, device), 'nnaudio': nnaudio_calls(sr, hop, device)}
    few = wave[:theirs].cpu().numpy() if device == 'cpu' else []
    for i in range(rounds + 1):
        if i == 1: clock.best.clear()  # the first round makes filters and compiles
        minutes = wave.numel() / sr / 60
        known = set(from_wave(np.zeros(2), sr, hop))
        for name in names: clock(('ours', name), lambda: Target(name)(Analysis(wave, sr, hop)), minutes)
        clock('ours', lambda: (lambda a: [Target(name)(a) for name in names])(Analysis(wave, sr, hop)), minutes)
        clock('compared', lambda: (lambda a: [Target(name)(a) for name in names if name in known])(Analysis(wave, sr, hop)), minutes)
        a = Analysis(wave, sr, hop)
        for name, step in steps().items(): clock(('step', name), lambda: step(a), minutes)
        clock('hpss of mel bands', lambda: (median31(a.mel.mT), median31(a.mel.permute(1, 0, 2).flatten(1)[None])), minutes)
        with torch.no_grad():
            for library, calls in batches.items():
                for name, call in calls.items(): clock((library, name), lambda: call(wave), minutes)
        if not len(few): continue
        minutes = few.size / sr / 60
        for name in known: clock(('librosa', name), lambda: [from_wave(y, sr, hop)[name]() for y in few], minutes)
        made = []
        clock('intermediates', lambda: made.extend(intermediates(y, sr, hop) for y in few), minutes)
        for name in known: clock(('shared', name), lambda: [from_shared(y, sr, hop, s)[name]() for y, s in zip(few, made)], minutes)
    best = clock.best
    rows = [dict(target=name) | {f'{column}_ms': best.get((column, name)) for column in ('ours', 'librosa', 'shared', 'torchaudio', 'nnaudio')} for name in names]
    total = lambda column: sum(v for k, v in best.items() if isinstance(k, tuple) and k[0] == column) or None
    together = dict(ours_ms=best['ours'], compared_ms=best['compared'], librosa_ms=total('librosa'), shared_ms=total('shared') and total('shared') + best['intermediates'], hour_s=best['ours'] * 60 / 1000)
    return dict(rows=rows, together=together, steps={k[1]: v for k, v in best.items() if k[0] == 'step'} | {'harmonic and percussive of mel bands instead': best['hpss of mel bands']})


def costs(rows):
    "Name to what tables show of a target: CPU milliseconds per minute of audio, alone"
    return {row['target']: dict(cost=round(row['ours_ms'])) for row in rows}


def show(found):
    "Print the table; a target alone has no ratio to librosa's shared call, which leaves out what is shared"
    columns = ['ours', 'librosa', 'shared', 'torchaudio', 'nnaudio']
    cell = lambda v: f'{v:13.1f}' if v else ' ' * 13
    def line(name, row, ours):
        ratios = [row.get(f'{c}_ms') and row[f'{c}_ms'] / ours for c in columns[1:] if c != 'shared' or 'target' not in row]
        if 'target' in row: ratios.insert(1, None)
        print(f'{name:28}' + ''.join(cell(row.get(f'{c}_ms')) for c in columns) + ''.join(map(cell, ratios)))
    print(f"{'ms a minute':28}" + ''.join(f'{c:>13}' for c in columns) + ''.join(f"{'x ' + c:>13}" for c in columns[1:]))
    for row in found['rows']: line(row['target'], row, row['ours_ms'])
    all_of_them = found['together']
    line('those librosa has, together', all_of_them | {'ours_ms': all_of_them['compared_ms']}, all_of_them['compared_ms'])
    line('all together', {'ours_ms': all_of_them['ours_ms']}, 1)
    print(f"an hour of audio: {all_of_them['hour_s']:.1f} s\n\nwhat the time is, ms a minute")
    for name, value in found['steps'].items(): print(f'{name:44}{value:8.1f}')


def draw(found, path):
    "Ratios as horizontal bars on a logarithmic axis"
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    rows = [row for row in found['rows'] if row['librosa_ms'] or row['nnaudio_ms']][::-1]
    fig, ax = plt.subplots(figsize=(6.5, .26 * len(rows) + 1), layout='constrained')
    ax.barh(range(len(rows)), [(row['librosa_ms'] or math.nan) / row['ours_ms'] for row in rows], color='#9ecae1', label='librosa, one call a clip')
    for column, marker in ('torchaudio', 'o'), ('nnaudio', 's'):
        at = [(i, row[f'{column}_ms'] / row['ours_ms']) for i, row in enumerate(rows) if row[f'{column}_ms']]
        if at: ax.scatter([v for _, v in at], [i for i, _ in at], marker=marker, s=16, zorder=3, label=column)
    ax.set(yticks=range(len(rows)), yticklabels=[row['target'] for row in rows], xscale='log', xlabel='times the CPU time of mtssl, alone')
    ax.axvline(1, color='k', lw=.8)
    ax.legend(fontsize=8)
    fig.savefig(path, dpi=100)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--clips', type=int, default=32, help='clips in the batch')
    parser.add_argument('--seconds', type=float, default=2., help='length of a clip')
    parser.add_argument('--sr', type=int, default=22050, help='sample rate, Hz')
    parser.add_argument('--hop', type=int, default=512, help='samples from frame to frame')
    parser.add_argument('--repeats', type=int, default=5, help='rounds, of which the fastest counts')
    parser.add_argument('--theirs', type=int, default=6, help='clips for librosa')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--json', help='write what was measured here')
    parser.add_argument('--figure', help='draw the ratios here')
    add_option(parser)
    args = parser.parse_args()
    made = np.stack([w for w, _ in synthesise(min(args.clips, 64), args.seconds, args.sr, jobs=1)])
    wave = torch.tensor(np.resize(made, (args.clips, made.shape[1]))).to(args.device)
    found = measure(wave, args.sr, args.hop, args.repeats, args.theirs)
    if args.device != 'cpu':
        n, start = math.ceil(3600 / (args.clips * args.seconds)), time.perf_counter()
        for _ in range(n): (lambda a: [Target(name)(a) for name in names])(Analysis(wave, args.sr, args.hop))
        torch.cuda.synchronize()
        found['together']['hour_s'] = (time.perf_counter() - start) * 3600 / (n * args.clips * args.seconds)
    chip = torch.cuda.get_device_name() if args.device != 'cpu' else f'{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, 1 thread'
    found |= dict(machine=chip, clips=args.clips, seconds=args.seconds, sr=args.sr, hop=args.hop, command=f'python benchmarks/targets.py --clips {args.clips} --seconds {args.seconds:g} --sr {args.sr} --hop {args.hop} --repeats {args.repeats}',
                  versions=dict(librosa=librosa.__version__, torch=torch.__version__))
    print(f'{args.clips} clips of {args.seconds:g} s at {args.sr} Hz, hop {args.hop}; {chip}\n')
    show(found)
    if args.json:
        with open(args.json, 'w') as file: json.dump(found, file, indent=1)
        if args.device == 'cpu': record('target', costs(found['rows']), args.measured, targets)
    if args.figure: draw(found, args.figure)
