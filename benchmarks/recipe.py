"""Which single change to the recipe of the package's models makes a better encoder? On clips that are not for tests.

    mtssl study answer --root DATA --out runs/answer    # makes the music and decodes the sets; its cells are not needed, Ctrl-C ends it
    python benchmarks/recipe.py runs/answer --out runs/recipe --csv nbs/recipe.csv

One thing at a time is moved from the study's own settings (tcn:small, workers `music`, equal weights, 1,000 steps), with the number of
epochs that makes the CPU time about equal. The second round puts what led the first together, and the third makes it longer. The fourth
moves one thing at a time again, from `2-D stem, without mfcc`, and the fifth takes more steps of what led it.
Every run is judged on the clips of all sets that are not for tests, by a linear probe in five folds by group. Runs are kept in `--out`,
and go on where they were stopped; so is the music that some of them are made with.
"""
import argparse
from pathlib import Path

import pandas as pd
import torch
import torch.nn as nn
from joblib import Parallel, delayed
from mtssl.encoding.convolutional import TCN, TCN2d
from mtssl.encoding.encoder import Encoder, encoders
from mtssl.features.analysis import Analysis
from mtssl.pretraining.runs import pretrain, resume
from mtssl.pretraining.workers import worker_sets
from mtssl.probing.baselines import embed_set
from mtssl.studies.jobs import CostCallback, open_music, open_sets, run_cost
from mtssl.studies.plan import read_study
from recipe_music import musics, other_music
from shipped import alone, validated


def maps_of(*channels, strides):
    "2-D convolutions, each with half as many bands as the one before"
    layer = lambda stride, a, b: [nn.Conv2d(a, b, (5, 3), (2, stride), (2, 1)), nn.BatchNorm2d(b), nn.GELU()]
    return nn.Sequential(*(part for stride, a, b in zip(strides, channels, channels[1:]) for part in layer(stride, a, b)))


class Beside(nn.Module):
    "A stem to which the mean and the maximum over the bands of 2-D convolutions of log-mel are added; `shared` begins with the stem's own maps"
    def __init__(self, stem, width, shared):
        super().__init__()
        self.stem, self.shared = stem, shared
        self.maps = maps_of(16, 32, 64, strides=(1, 1)) if shared else maps_of(1, 16, 32, 64, strides=(2, 1, 1))
        self.side = nn.Conv1d(2 * 64, width, 1)

    def forward(self, bands):
        mel, cqt = bands[:, None].split([128, 84], 2)
        if self.shared:
            mel = self.stem.mel(mel)
            stem = self.stem.mix(torch.cat([mel.flatten(1, 2), self.stem.cqt(cqt).flatten(1, 2)], 1))
        else: stem = self.stem(bands)
        maps = self.maps(mel)
        return stem + self.side(torch.cat([maps.mean(2), maps.amax(2)], 1))


@encoders.register('tcn_beside_2d')
class TCNBeside2d(TCN):
    "A TCN with 2-D convolutions beside its stem"
    def __init__(self, sr: int = 22_050, width: int = 128, blocks: int = 6, front_hop: int = 512):
        super().__init__(sr, width, blocks, front_hop)
        self.stem = Beside(self.stem, width, shared=False)


@encoders.register('tcn2d_beside')
class TCN2dBeside(TCN2d):
    "Both: 2-D convolutions in the stem, and further ones beside it"
    def __init__(self, sr: int = 22_050, width: int = 128, blocks: int = 6, maps: int = 16, front_hop: int = 512):
        super().__init__(sr, width, blocks, maps, front_hop)
        self.stem = Beside(self.stem, width, shared=True)


@encoders.register('tcn2d_level')
class TCN2dLevel(TCN2d):
    "The package's `tcn2d` with both spectrograms relative to their largest value: louder or softer music gives the same"
    def front(self, wave, analysis=None):
        analysis = analysis or Analysis(wave, self.sr, self.front_hop)
        return torch.cat([x - x.amax((1, 2), keepdim=True) for x in (analysis.logmel, analysis.logcqt)], 1)


@encoders.register('tcn2d_level_beside')
class TCN2dLevelBeside(TCN2dLevel):
    "The same, and these largest values added to what leaves the stem"
    def __init__(self, sr: int = 22_050, width: int = 128, blocks: int = 6, maps: int = 16, front_hop: int = 512):
        super().__init__(sr, width, blocks, maps, front_hop)
        self.level = nn.Linear(2, width)

    def frames(self, wave, analysis=None):
        analysis = analysis or Analysis(wave, self.sr, self.front_hop)
        level = torch.stack([x.amax((1, 2)) for x in (analysis.logmel, analysis.logcqt)], 1) / 20 + 1
        outs = [self.stem(self.front_norm(self.front(wave, analysis))) + self.level(level)[..., None]]
        for block in self.blocks: outs.append(block(outs[-1]))
        return outs


class Squeezed(nn.Module):
    "A residual block whose channels are each weighted by what the whole clip holds (Hu et al. 2018, arXiv 1709.01507)"
    def __init__(self, block, width):
        super().__init__()
        self.block = block
        self.weigh = nn.Sequential(nn.Linear(width, width // 8), nn.GELU(), nn.Linear(width // 8, width))

    def forward(self, x):
        change = self.block(x) - x
        return x + change * (2 * torch.sigmoid(self.weigh(change.mean(-1))))[..., None]


@encoders.register('tcn2d_squeezed')
class TCN2dSqueezed(TCN2d):
    "The package's `tcn2d` with squeeze-and-excitation"
    def __init__(self, sr: int = 22_050, width: int = 128, blocks: int = 6, maps: int = 16, front_hop: int = 512):
        super().__init__(sr, width, blocks, maps, front_hop)
        self.blocks = nn.ModuleList(Squeezed(block, width) for block in self.blocks)


class Deep(nn.Module):
    "Three 2-D convolutions over each spectrogram where the package's stem has two"
    def __init__(self, width, maps):
        super().__init__()
        self.mel, self.cqt = (maps_of(1, maps, maps, 2 * maps, strides=(2, 1, 1)) for _ in range(2))
        self.mix = nn.Conv1d(2 * maps * (16 + 11), width, 3, padding=1)

    def forward(self, bands):
        mel, cqt = bands[:, None].split([128, 84], 2)
        return self.mix(torch.cat([self.mel(mel).flatten(1, 2), self.cqt(cqt).flatten(1, 2)], 1))


@encoders.register('tcn2d_deep_stem')
class TCN2dDeepStem(TCN2d):
    "The package's `tcn2d` with a deeper stem"
    def __init__(self, sr: int = 22_050, width: int = 128, blocks: int = 6, maps: int = 16, front_hop: int = 512):
        super().__init__(sr, width, blocks, maps, front_hop)
        self.stem = Deep(width, maps)


@encoders.register('tcn2d_deep')
class TCN2dDeep(TCN2d):
    "The package's `tcn2d` with a small network for every frame behind each block"
    def __init__(self, sr: int = 22_050, width: int = 128, blocks: int = 6, maps: int = 16, front_hop: int = 512):
        super().__init__(sr, width, blocks, maps, front_hop)
        layers = lambda: [nn.BatchNorm1d(width), nn.GELU(), nn.Conv1d(width, 2 * width, 1), nn.GELU(), nn.Conv1d(2 * width, width, 1)]
        self.small = nn.ModuleList(nn.Sequential(*layers()) for _ in range(blocks))

    def frames(self, wave, analysis=None):
        outs = [self.stem(self.front_norm(self.front(wave, analysis)))]
        for block, small in zip(self.blocks, self.small):
            x = block(outs[-1])
            outs.append(x + small(x))
        return outs


music = worker_sets['music']
def masked(share): return ','.join(w[:-1] + f', masked={share})' if w.startswith('clip(') else f'frame({w}, masked={share})' for w in music)

no_mfcc, relational = ','.join(w for w in music if 'mfcc' not in w), 'music,lim,gim,spc,order,ntxent'

changes = { # settings that differ
    'as it is': {},
    'without mfcc': dict(workers=no_mfcc),
    '2-D stem': dict(encoder='tcn2d:small', epochs=7),
    '2-D convolutions beside': dict(encoder='tcn_beside_2d', epochs=6),
    'half of the frames hidden': dict(workers=masked(.5), epochs=7),
    'contrast of two crops of a track': dict(workers="music,ntxent(view='crops')", epochs=5),
    'a teacher of its own (ema)': dict(workers='music,ema', epochs=6),
    'twice as wide': dict(encoder='tcn', epochs=6),
    'light distortions': dict(distortions='light', epochs=7),
    'contrast of two crops, distorted': dict(workers="music,ntxent(view='crops')", distortions='pase_plus', epochs=4),
}
together = { # the second round, after the 2-D stem had led the first
    '2-D stem and beside': dict(encoder='tcn2d_beside', epochs=6),
    '2-D stem, without mfcc': dict(encoder='tcn2d:small', workers=no_mfcc, epochs=7),
    '2-D stem, relational': dict(encoder='tcn2d:small', workers=relational, epochs=7),
    '2-D stem, twice as wide': dict(encoder='tcn2d', epochs=5),
    '2-D stem of twice as many maps': dict(encoder='tcn2d(width=128, maps=32)', epochs=5),
    '2-D stem, without mfcc, gradnorm': dict(encoder='tcn2d:small', workers=no_mfcc, weighting='gradnorm', epochs=6),
}
longer = { # the third round, of about 2,000 steps; the first is the recipe of `mtssl-base`
    '2-D stem, without mfcc, twice as wide': dict(encoder='tcn2d', workers=no_mfcc, epochs=20),
    '2-D stem, without mfcc, three times as wide': dict(encoder='tcn2d(width=384)', workers=no_mfcc, epochs=20),
    '2-D stem, without mfcc, twice as wide, without its level': dict(encoder='tcn2d_level', workers=no_mfcc, epochs=20),
}
small = dict(encoder='tcn2d:small', workers=no_mfcc, epochs=7)
one_by_one = { # the fourth round, each moved from '2-D stem, without mfcc'; a music is one of `recipe_music`
    **{f'small: {name}': small | dict(music=name) for name in musics},
    'small: relative to its level, level beside': small | dict(encoder='tcn2d_level_beside'),
    'small: squeeze-and-excitation': small | dict(encoder='tcn2d_squeezed'),
    'small: three 2-D convolutions': small | dict(encoder='tcn2d_deep_stem', epochs=6),
    'small: a network behind each block': small | dict(encoder='tcn2d_deep'),
    'small: workers of clip(logmel), cqt, clip(cqt), too': small | dict(workers=no_mfcc + ',clip(logmel),cqt,clip(cqt)'),
    'small: workers of harmonic and percussive, too': small | dict(workers=no_mfcc + ',harmonic,percussive,clip(harmonic),clip(percussive)'),
    'small: crops of 3 s, twice as many': small | dict(seconds=3, bs=32, crops_per_epoch=3200),
    'small: crops of 12 s, half as many': small | dict(seconds=12, bs=8, crops_per_epoch=800),
    'small: twice the learning rate': small | dict(lr=3e-3),
    'small: four times the learning rate': small | dict(lr=6e-3),
}
second = { # the fifth, of about 2,000 steps again
    '2-D stem, without mfcc, twice as wide, synthesised music only': dict(encoder='tcn2d', workers=no_mfcc, epochs=20, music='synthesised music only'),
    '2-D stem, without mfcc, twice as wide, more synthesised music, twice the learning rate':
        dict(encoder='tcn2d', workers=no_mfcc, lr=3e-3, epochs=20, music='more synthesised music, too'),
}
rounds = changes | together | longer | one_by_one | second


def pretrained(name, seed, study, folder, out):
    "The run of a change and a seed, made or continued if need be"
    run = out/f'{name}, seed {seed}'
    shared = dict(quiet=True, device='cpu', cbs=[CostCallback(run)])
    if (run/'checkpoints'/'last.pt').exists(): resume(run, **shared)
    else:
        settings = study.pretrain | dict(encoder='tcn:small', workers='music', seed=seed) | rounds[name]
        heard, corpus = settings.pop('music', None), open_music(study, folder)
        pretrain(other_music(heard, corpus, out) if heard else corpus, run, **shared, **settings)
    return run


def judge(name, seed, folder, out):
    "Rows of one change and seed"
    kept = out/f'{name}, seed {seed}.csv'
    if kept.exists(): return pd.read_csv(kept)
    run = pretrained(name, seed, read_study('answer', '.'), folder, out)
    encoder = Encoder.from_pretrained(run, device='cpu')
    cost = dict(change=name, seed=seed, steps=int(pd.read_csv(run/'history.csv')['step'].iloc[-1]), cpu_seconds=round(run_cost(run)['cpu_seconds']))
    rows = [cost | row for n, s in open_sets(folder).items() for row in validated(embed_set(encoder, s, bs=8, quiet=True), n, s)]
    pd.DataFrame(rows).to_csv(kept, index=False)
    return pd.DataFrame(rows)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', type=Path, help='folder of the study `answer`')
    parser.add_argument('--out', type=Path, required=True, help='folder for the runs')
    parser.add_argument('--changes', nargs='*', default=list(rounds), help='some of: ' + '; '.join(list(rounds)))
    parser.add_argument('--seeds', type=int, nargs='*', default=[0, 1])
    parser.add_argument('--csv', type=Path, required=True)
    parser.add_argument('--jobs', type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tables = Parallel(args.jobs, backend='multiprocessing')(delayed(alone)(judge, name, seed, args.study, args.out) for seed in args.seeds for name in args.changes)
    pd.concat(tables).round(4).to_csv(args.csv, index=False)
