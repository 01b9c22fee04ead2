"""Which layers, and which statistics over time, make the best embedding? On clips that are not for tests.

    mtssl study answer --root DATA --out runs/answer    # decodes the sets; its cells are not needed, Ctrl-C ends it
    python benchmarks/pooling.py runs/answer --models mtssl-base mtssl-tiny --csv nbs/pooling.csv

Every clip of the study's labelled sets is described once, by five statistics over time of every layer: mean, deviation, maximum, and the
mean size of the change from frame to frame and over eight frames. Choices of layers and statistics, and the package's choice whitened by
principal components of 1,024 crops of the study's music, are then judged on the clips that are not for tests, by a linear probe in five
folds by group.
"""
import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from mtssl.embedding.embedding import embed_waves
from mtssl.encoding.encoder import Encoder
from mtssl.music.crops import RandomCrops
from mtssl.probing.baselines import embed_set
from mtssl.studies.jobs import open_music, open_sets
from mtssl.studies.plan import read_study
from shipped import alone, validated
from sklearn.decomposition import PCA

ways = {'mean': [0], 'mean, deviation': [0, 1], 'mean, deviation, maximum': [0, 1, 2], 'mean, deviation, change': [0, 1, 3],
        'mean, deviation, maximum, change': [0, 1, 2, 3], 'mean, deviation, both changes': [0, 1, 3, 4]}


@torch.no_grad()
def described(encoder, wave): # [L][5, D]
    "Statistics over time of every layer for one clip, in the order that `ways` counts them"
    def of(x): # [D, N]
        change = lambda lag: (x[:, lag:] - x[:, :-lag]).abs().mean(1) if x.shape[1] > lag else torch.zeros(len(x))
        return torch.stack([x.mean(1), x.var(1, correction=0).add(1e-6).sqrt(), x.amax(1), change(1), change(8)])
    return [of(layer[0]).numpy() for layer in encoder.layers(torch.as_tensor(wave)[None])]


def described_set(model, name, folder): # [L][n, 5, D]
    encoder, dataset = Encoder.from_pretrained(model, device='cpu').eval(), open_sets(folder)[name]
    return [np.stack(layer) for layer in zip(*(described(encoder, wave) for wave in dataset.waves()))]


def choices(layers): # name -> indices
    last = layers - 1
    return {'last layer': [last], 'first, middle and last layer': [0, layers // 2, last], 'all layers': list(range(layers))}


def judged(name, folder, model, layers): # rows
    "All choices on one set"
    dataset, rows = open_sets(folder)[name], []
    for where, which in choices(len(layers)).items():
        for way, statistic in ways.items():
            X = np.concatenate([layers[l][:, statistic].reshape(len(layers[l]), -1) for l in which], 1)
            rows += [dict(model=model, layers=where, statistics=way, dim=X.shape[1], **row) for row in validated(X, name, dataset)]
    return rows


def judge(model, name, folder): return judged(name, folder, model, described_set(model, name, folder))


def whitened(model, folder): # rows
    "The model's own vectors of every set, as the largest principal components of music, each with a deviation of 1"
    encoder, rows = Encoder.from_pretrained(model, device='cpu'), []
    crops = RandomCrops(open_music(read_study('answer', '.'), folder), 6., n=1024, silence=-60., seed=0)
    components = PCA(512, whiten=True, svd_solver='full').fit([*embed_waves(encoder, (crops[i][0].numpy() for i in range(len(crops))))])
    for name, dataset in open_sets(folder).items():
        found = components.transform(embed_set(encoder, dataset, bs=8, quiet=True))
        rows += [dict(model=model, layers='first, middle and last layer', statistics=f'mean, deviation, whitened to {size}', dim=size, **row)
                 for size in (256, 512) for row in validated(found[:, :size], name, dataset)]
    return rows


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', type=Path, help='folder of the study `answer`')
    parser.add_argument('--models', nargs='+', default=['mtssl-base'])
    parser.add_argument('--csv', type=Path, required=True)
    parser.add_argument('--jobs', type=int, default=2)
    args = parser.parse_args()
    work = [*((judge, model, name, args.study) for model in args.models for name in open_sets(args.study)), *((whitened, model, args.study) for model in args.models)]
    rows = [row for rows in Parallel(args.jobs)(delayed(alone)(*w) for w in work) for row in rows]
    pd.DataFrame(rows).round(4).to_csv(args.csv, index=False)
