"""Other music to pre-train on than that of the study `answer`, for `recipe.py`: each a store beside its runs, made if need be.

    python benchmarks/recipe_music.py runs/answer 'more synthesised music, too' --out stores    # what `mtssl-tiny` heard
"""
import argparse
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from mtssl.music.corpus import Corpus, build_corpus
from mtssl.music.synth.mix import mixdown, render, synthesise
from mtssl.music.synth.score import compose
from mtssl.pretraining.distortions import make_distortions
from torchaudio.functional import resample

synthesised, real = '0/', '1/' # how the study's tracks begin, by source


def tracks_of(corpus, source=''):
    "Name, wave and group of the tracks of one source"
    for k, track in enumerate(corpus.read(['path', 'group']).itertuples()):
        if track.path.startswith(source): yield track.path, corpus[k], track.group


def sparse_clip(i, seconds=6., sr=22_050, seed=5):
    "One part of a synthesised clip alone: one to eight of its notes or strokes at other times, of other lengths, in other octaves, over less noise"
    rng = np.random.default_rng([seed, i])
    score = compose(rng, seconds, str(i))
    part = ['melody', 'melody', 'chords', 'bass', 'drums', 'drums', 'drums'][rng.integers(7)]
    count, pitched = int(rng.integers(1, 9)), part != 'drums'
    octaves = int(rng.choice([-24, -12, 0, 0, 12, 24])) if pitched else 0
    part = part if score.events[part] else 'melody'
    events = score.events[part]
    chosen = sorted(rng.choice(len(events), min(count, len(events)), replace=False))
    lengths = rng.uniform(.05, 2., len(chosen))
    def moved(k, length): # an event
        _, _, what, velocity = events[k]
        what = what if part == 'drums' else int(np.clip(what + octaves, 24, 103))
        return float(rng.uniform(0, .9 * seconds)), float(length), what, velocity
    score.events = {p: [moved(k, length) for k, length in zip(chosen, lengths)] if p == part else [] for p in score.events}
    score.mix['noise'] = rng.uniform(35, 80)
    score.mix['level'] = rng.uniform(-45, -18)
    return mixdown(score, {part: render(score, sr)[part]}, sr)


def faster_or_slower(wave, i, sr=22_050):
    "A track played at another speed, by up to half an octave, with its pitch"
    to = round(sr / 2**np.random.default_rng([11, i]).uniform(-.5, .5)) // 50 * 50
    return resample(torch.as_tensor(wave), sr, to, lowpass_filter_width=6).clamp(-1, 1).numpy()


def sparse(corpus):
    clips = Parallel(2, return_as='generator', batch_size=16)(delayed(sparse_clip)(i) for i in range(3000))
    for i, wave in enumerate(clips): yield f'2/event{i:05}', wave, f'2/event{i:05}'


def speeds(corpus):
    for i, track in enumerate(corpus.read(['path', 'group']).itertuples()):
        if track.path.startswith(real): yield track.path.replace(real, '3/', 1), faster_or_slower(corpus[i], i), track.group


def more(corpus):
    for i, (wave, _) in enumerate(synthesise(10_000, 6., corpus.sr, seed=1, jobs=2)): yield f'4/clip{i:05}', wave, f'4/clip{i:05}'


def produced(corpus):
    "Synthesised clips as they are, or overdriven, in another room, through an equaliser or a low rate"
    change = make_distortions(['clipping(p=.3, drive=(3, 15))', 'reverb(p=.4, rt60=(.3, 1.5), drr=(0, 15))', 'band_drop(p=.2)',
                               'low_pass(p=.3, cutoff=(4000, 10000))'], corpus.sr)
    draw = partial(torch.rand, generator=torch.Generator().manual_seed(0))
    for name, wave, group in tracks_of(corpus, synthesised): yield name, change(torch.as_tensor(wave)[None], draw)[0].clamp(-1, 1).numpy(), group


musics = { # name -> the tracks
    'real music only': lambda corpus: tracks_of(corpus, real),
    'synthesised music only': lambda corpus: tracks_of(corpus, synthesised),
    'single notes and strokes, too': lambda corpus: chain(tracks_of(corpus), sparse(corpus)),
    'real music at other speeds, too': lambda corpus: chain(tracks_of(corpus), speeds(corpus)),
    'more synthesised music, too': lambda corpus: chain(tracks_of(corpus), more(corpus)),
    'synthesised music produced': lambda corpus: chain(produced(corpus), tracks_of(corpus, real)),
}


def other_music(name, corpus, folder):
    "The store of one of `musics`"
    store = folder/name
    if not (store/'manifest.parquet').exists(): build_corpus(musics[name](corpus), store, corpus.sr, quiet=True)
    return Corpus(store)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', type=Path, help='folder of the study `answer`, whose music is made')
    parser.add_argument('music', choices=list(musics))
    parser.add_argument('--out', type=Path, required=True, help='folder for the store')
    args = parser.parse_args()
    print(other_music(args.music, Corpus(args.study/'data'/'corpus'), args.out))
