"""MusiCNN beside our encoders: its weights, its inference in torch, the check against the original, and its scores with the same probe.

    python benchmarks/peers/musicnn.py get                                # an environment with TensorFlow, and the weights as npz
    python benchmarks/peers/musicnn.py check sound.wav                    # this inference against the original graph
    python benchmarks/peers/musicnn.py probe STUDY --csv nbs/peers.csv    # scores on the labelled sets of a study's folder, and speed

See README.md beside this file for what is downloaded and under which licence. All is kept in `--cache`, `~/.cache/mtssl-peers`
unless it says another folder. MusiCNN: J. Pons, X. Serra, musicnn: pre-trained convolutional neural networks for music audio tagging, 2019.
"""
import argparse, os, subprocess, sys, time, zipfile
for name in 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS': os.environ.setdefault(name, '1')
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from librosa.filters import mel
from mtssl.embedding.embedding import embed_wave
from mtssl.encoding.encoder import Encoder, count_parameters
from mtssl.music.audio import load_audio
from mtssl.probing.baselines import embed_set
from mtssl.probing.peers import Peer, peer_features
from mtssl.studies.jobs import open_sets, probe_cell

sr, n_fft, hop, n_mels, window = 16_000, 512, 256, 96, 187  # window: frames of the three seconds that it was trained on
trained_on = dict(MTT_musicnn='MagnaTagATune', MSD_musicnn='Million Song Dataset')
libraries = 'tensorflow-cpu>=2.18', 'tf-keras>=2.18', 'librosa>=0.11', 'numpy<2'  # NumPy 2 overflows in its half-precision spectrum


class MusiCNN:
    "Its inference: waves `[B, T]` at 16 kHz to what each layer says of windows of three seconds"
    def __init__(self, weights): # name -> array, of the checkpoint
        self.weights = {k: torch.as_tensor(v) for k, v in weights.items()}
        self.filters, self.hann = torch.as_tensor(mel(sr=sr, n_fft=n_fft, n_mels=n_mels)), torch.hann_window(n_fft)

    def of(self, layer, i): # the variables of one layer; the first of a kind has no number
        prefix = f'{layer}_{i}/' if i else f'{layer}/'
        return {k.removeprefix(prefix): v for k, v in self.weights.items() if k.startswith(prefix)}

    def norm(self, i, x): # `[B, C, ...]`
        w = self.of('batch_normalization', i)
        return F.batch_norm(x, w['moving_mean'], w['moving_variance'], w['gamma'], w['beta'], eps=1e-3)

    def spectrogram(self, waves): # `[B, T]` to `[B, N, 96]`
        "Log-mel, by way of the half precision that the original keeps it in"
        spectrum = torch.stft(waves, n_fft, hop, window=self.hann, center=True, pad_mode='constant', return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log10(10_000 * (self.filters @ power).mT.half().float() + 1)

    def shapes(self, i, x, padding): # convolution over time and bands, the most of all bands: `[B, C, N]`
        w = self.of('conv2d', i)
        y = F.conv2d(F.pad(x, (0, 0, *padding)), w['kernel'].permute(3, 2, 0, 1), w['bias']).relu_()
        return self.norm(i + 1, y).amax(-1)

    def along(self, i, x): # convolution over seven frames of all features
        w = self.of('conv2d', i)
        return self.norm(i + 1, F.conv1d(x, w['kernel'][:, :, 0].permute(2, 1, 0), w['bias'], padding=3).relu())

    def front(self, windows): # `[B, N, 96]` to `[B, 561, N]`: what looks like timbre, and like rhythm
        x = self.norm(0, windows[:, None])
        rhythm = [((k - 1) // 2, k // 2) for k in (128, 64, 32)]
        return torch.cat([self.shapes(i, x, padding) for i, padding in enumerate([(3, 3), (3, 3), *rhythm])], 1)

    @torch.inference_mode()
    def __call__(self, windows): # `[B, 187, 96]` to features by name, `[B, ...]`
        x = self.front(windows)
        layers = [x, self.along(5, x)]
        for i in (6, 7): layers.append(layers[-1] + self.along(i, layers[-1]))
        x = torch.cat(layers, 1)
        pools = x.amax(-1), x.mean(-1)
        dense, last = self.of('dense', 0), self.of('dense', 1)
        hidden = self.norm(9, torch.stack(pools, -1).flatten(1)) @ dense['kernel'] + dense['bias']
        penultimate = self.norm(10, hidden.relu())
        tags = (penultimate @ last['kernel'] + last['bias']).sigmoid()
        return dict(max_pool=pools[0], mean_pool=pools[1], penultimate=penultimate, tags=tags)


def windows_of(spectrogram): # `[B, N, 96]` to `[B, W, 187, 96]`
    "Windows of three seconds; a shorter sound is repeated, as in its training, and a rest of at least half a window is heard in the last three seconds"
    n = spectrogram.shape[1]
    if n < window: return spectrogram[:, torch.arange(window) % n][:, None]
    starts = [*range(0, n - window + 1, window), *([n - window] if 2 * (n % window) >= window else [])]
    return torch.stack([spectrogram[:, s:s + window] for s in starts], 1)


def musicnn_peer(weights, name='MusiCNN'): # weights: a file from `get`
    "MusiCNN as a peer: the maxima and the means over time of its features, averaged over windows"
    network = MusiCNN(np.load(weights))
    @torch.inference_mode()
    def vectors(waves):
        windows = windows_of(network.spectrogram(torch.as_tensor(waves)))
        features = network(windows.flatten(0, 1))
        pools = torch.cat([features['max_pool'], features['mean_pool']], 1)
        return pools.unflatten(0, windows.shape[:2]).mean(1)
    return Peer(name, sr, vectors, window=60.)


def run(*words): subprocess.run([str(w) for w in words], check=True)


def environment(cache): # the Python of the environment, and the folder of the unpacked wheel
    return cache/'tensorflow'/'bin'/'python', cache/'wheel'


def get(args):
    "Make the environment, and read the weights of both models"
    python, wheel = environment(args.cache)
    if not python.exists():
        run('uv', 'venv', '--python', '3.11', python.parents[1])
        run('uv', 'pip', 'install', '--python', python, *libraries)
    if not wheel.exists():
        run(sys.executable, '-m', 'pip', 'download', '--no-deps', '--dest', args.cache, 'musicnn==0.1.0')
        with zipfile.ZipFile(next(args.cache.glob('musicnn-*.whl'))) as file: file.extractall(wheel)
    for model in trained_on: run(python, Path(__file__).with_name('original.py'), 'weights', wheel, model, args.cache/f'{model}.npz')


def compare(model, wave, original):
    "Largest differences from the original, by layer: of the same spectrogram, and from the wave on"
    network = MusiCNN(np.load(args.cache/f'{model}.npz'))
    spectra = dict(same=torch.as_tensor(original['spectrogram']), own=network.spectrogram(torch.as_tensor(wave[None]))[0])
    layers = {k: network(x[:len(x) // window * window].unflatten(0, (-1, window))) | dict(spectrogram=x) for k, x in spectra.items()}
    for name, own in layers['own'].items():
        rows = slice(1) if name == 'penultimate' else slice(None)  # the original repeats that of its first window
        off = {k: abs(layers[k][name].numpy() - original[name])[rows].max() for k in spectra}
        yield dict(model=model, layer=name, shape=str(list(own.shape)), largest=own.abs().max().item(), **off)


def check(args):
    "Print how far this inference is from the original, layer by layer; exit code 1 if it is not the same"
    import pandas as pd
    import soundfile
    python, wheel = environment(args.cache)
    wave, rows = load_audio(args.sound, sr, 0, 60)[0], []
    soundfile.write(args.cache/'sound.wav', wave, sr, subtype='FLOAT')
    for model in trained_on:
        run(python, Path(__file__).with_name('original.py'), 'features', wheel, model, args.cache/'sound.wav', args.cache/'original.npz')
        rows += compare(model, wave, np.load(args.cache/'original.npz'))
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format='%.2g'))
    if not (table['same'].max() < 1e-3 and (table['own'] / table['largest']).max() < 1e-3): sys.exit('It is not the original.')


def real_time(describe, rate, seconds=60, repeats=10):
    "How many seconds of sound are described in one of CPU time at one thread, at best; decoding apart"
    rng, spent = np.random.default_rng(0), []
    t = np.arange(seconds * rate) / rate
    wave = (.1 * sum(np.sin(2 * np.pi * (f * t + 5 * np.sin(t))) for f in rng.uniform(100, 2000, 5)) + .05 * rng.normal(size=len(t))).astype('float32')
    for _ in range(repeats):
        start = time.process_time()
        describe(wave)
        spent.append(time.process_time() - start)
    return seconds / min(spent)


def judge(facts, features, sets, csv):
    "Probe one row, and put its lines in the place of those that the table has of it"
    import pandas as pd
    lines = probe_cell(SimpleNamespace(probes=['linear'], amounts=[1.]), facts | dict(seed=0), features, sets)[0]
    print(lines[['features', 'task', 'value', 'low', 'high', 'real_time']].to_string(index=False), flush=True)
    if not csv: return
    others = pd.read_csv(csv).query('features != @lines.features[0]') if csv.exists() else lines[:0]
    pd.concat([others, lines]).to_csv(csv, index=False)


def probe(args):
    "Scores of MusiCNN, and of models of our own, on all labelled sets of a study; the lines are those of a study's cells"
    torch.set_num_threads(1)
    sets = open_sets(args.study)
    for model in args.models:
        name, _, folder = model.rpartition('=')
        encoder = Encoder.from_pretrained(folder, device='cpu')
        speed = real_time(lambda wave: embed_wave(encoder, wave), encoder.sr)
        facts = dict(features=name or Path(folder).name, kind='model', parameters=count_parameters(encoder), real_time=round(speed))
        judge(facts, {name: embed_set(encoder, dataset, bs=8) for name, dataset in sets.items()}, sets, args.csv)
    for model in args.musicnn:
        peer, weights = musicnn_peer(args.cache/f'{model}.npz', f'MusiCNN, {trained_on[model]}'), np.load(args.cache/f'{model}.npz')
        speed = real_time(lambda wave: peer(wave[None]), sr)
        learned = sum(w.size for k, w in weights.items() if '/moving_' not in k)
        facts = dict(features=peer.name, kind='peer', parameters=learned, real_time=round(speed))
        judge(facts, {name: peer_features(peer, dataset) for name, dataset in sets.items()}, sets, args.csv)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--cache', type=Path, default=Path.home()/'.cache'/'mtssl-peers', help='where all is kept')
    commands = parser.add_subparsers(required=True)
    (command := commands.add_parser('get', help=get.__doc__)).set_defaults(do=get)
    (command := commands.add_parser('check', help=check.__doc__)).set_defaults(do=check)
    command.add_argument('sound', help='a file of at least 3 s')
    (command := commands.add_parser('probe', help=probe.__doc__)).set_defaults(do=probe)
    command.add_argument('study', type=Path, help='the folder of a study, whose labelled sets are decoded')
    command.add_argument('--models', nargs='*', default=[], help='saved models or runs to judge beside, such as mtssl-base or NAME=FOLDER')
    command.add_argument('--musicnn', nargs='*', default=['MTT_musicnn'], help='which of the two')
    command.add_argument('--csv', type=Path, help='where the lines go; those of other rows are kept')
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    args.do(args)
