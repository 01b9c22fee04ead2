"""What hand-crafted features and untrained encoders score on the three free sets of real recordings.

    python benchmarks/free_sets.py --csv nbs/free_sets.csv    # fetches the sets that are not in the data folder (2.4 GB) and takes 15 minutes

Drums and notes are judged on all five folds together, so every kit and every instrument is unseen once; soundtracks on its test pieces.
Intervals are over groups: instruments of a kit, instruments, pieces; drums a second time over whole kits. Untrained encoders are
calibrated on the fold's own training clips, three seeds.
"""
import argparse, warnings
from pathlib import Path

import mtssl.encoding  # noqa: F401, whose rooms register theirs
import numpy as np
import pandas as pd
import torch
from mtssl.core.downloads import fetchables
from mtssl.encoding.encoder import encoders
from mtssl.probing.baselines import embed_set, handcrafted, random_row, row_titles, untrained
from mtssl.probing.labelled import LeftOut, data_folder, datasets
from mtssl.probing.probes import probe_all, scores_table

warnings.simplefilter('ignore', LeftOut)
torch.set_num_threads(1)
seeds = 3


def features(dataset, hand, encoder):
    "Row -> features: chance, hand-crafted ones, and untrained encoders calibrated on the training clips"
    config = encoders.make(encoder).config
    training = [w[:6 * 22050].copy() for w in dataset.waves(22050, dataset.rows('train')[:96])]
    twins = {seed: untrained(config, training, seed=seed) for seed in range(seeds)}
    vectors = embed_set(twins, dataset, quiet=True)
    return {'chance': None} | {title: hand[key] for key, title in row_titles.items()} | {random_row(seeds): [vectors[s] for s in range(seeds)]}


def judge(name, encoder):
    "Results on all folds of a set, and by another grouping where there is one"
    root = data_folder()/name
    if not (root/'labels.csv').exists(): fetchables[name].get(root)
    folds = range(5) if name != 'soundtracks' else [None]
    read = lambda fold: datasets[name](root) if fold is None else datasets[name](root, fold=fold)
    first = read(folds[0])
    hand, results = handcrafted(first, window=60.), []
    for fold in folds:
        dataset = read(fold)
        results += probe_all(features(dataset, hand, encoder), dataset)
        print(name, 'fold', fold, flush=True)
    yield name, 'groups of ' + dict(hydrogen_drums='an instrument of a kit', freepats='an instrument', soundtracks='a piece')[name], results, first
    if name == 'hydrogen_drums':
        kits = dict(zip(first.table['path'], first.table['kit']))
        for r in results: r.predictions['group'] = r.predictions['clip'].map(kits)
        yield name, 'groups of a kit', results, first


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--csv', type=Path, help='file to write')
    parser.add_argument('--encoder', default='tcn', help='architecture of the untrained rows')
    parser.add_argument('--sets', nargs='+', default=['hydrogen_drums', 'freepats', 'soundtracks'])
    args = parser.parse_args()
    tables = []
    for name in args.sets:
        for set_name, grouping, results, dataset in judge(name, args.encoder):
            groups = {r.task: set() for r in results}
            for r in results: groups[r.task] |= set(r.predictions['group'])
            table = scores_table(results)
            table = table[table['task'] != 'mean'].assign(set=set_name, by=grouping)
            table['groups'] = table['task'].map({task: len(g) for task, g in groups.items()})
            table['half'] = (table['high'] - table['low']) / 2
            tables.append(table[['set', 'task', 'features', 'value', 'low', 'high', 'half', 'n', 'groups', 'by', 'dim']])
    whole = pd.concat(tables, ignore_index=True)
    print(whole.round(3).to_string())
    if args.csv:
        old = pd.read_csv(args.csv) if args.csv.exists() else whole[:0]
        whole = pd.concat([old[~old['set'].isin(args.sets)], whole]) if len(old) else whole
        whole.sort_values(['set', 'task', 'by'], kind='stable').round(4).to_csv(args.csv, index=False)
