"""What hand-crafted features and untrained encoders score on the three free sets of real recordings.

    python benchmarks/free_sets.py --csv nbs/free_sets.csv    # fetches the sets that are not in the data folder (2.4 GB) and takes a quarter of an hour of one core

Drums and notes are judged on all five folds together, so every kit and every instrument is unseen once; soundtracks on its test pieces.
Intervals are over groups: instruments of a kit, instruments, pieces; drums a second time over whole kits. Untrained encoders are
calibrated on the fold's own training clips, three seeds.
"""
import argparse, warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import mtssl.encoding  # noqa: F401, whose rooms register theirs
import numpy as np
import pandas as pd
import torch
from mtssl.core.downloads import fetchables
from mtssl.embedding.embedding import embed_waves
from mtssl.encoding.encoder import encoders
from mtssl.probing.baselines import handcrafted, random_row, row_titles, untrained
from mtssl.probing.labelled import LeftOut, data_folder, datasets
from mtssl.probing.probes import probe_all, scores_table

warnings.simplefilter('ignore', LeftOut)
torch.set_num_threads(1)
seeds = 3


def shared(function, items, jobs):
    "What a function gives of each item, by processes that are copies of this one"
    if jobs == 1: return list(map(function, items))
    with ProcessPoolExecutor(jobs, get_context('fork')) as pool: return list(pool.map(function, items))


def describe(dataset, encoder, jobs):
    "Hand-crafted features of clips, name -> [n, D], and of an untrained encoder per seed, calibrated on the training clips"
    config = encoders.make(encoder).config
    training = [w[:6 * 22050].copy() for w in dataset.waves(22050, dataset.rows('train')[:96])]
    twins = [untrained(config, training, seed=seed) for seed in range(seeds)]
    def of(rows):
        hand = handcrafted(dataset.waves(22050, rows))
        return hand, [np.stack(v) for v in zip(*embed_waves(twins, dataset.waves(22050, rows)))]
    global work
    work = of
    parts = shared(_work, np.array_split(np.arange(len(dataset)), jobs), jobs)
    return {k: np.concatenate([hand[k] for hand, _ in parts]) for k in parts[0][0]}, [np.concatenate(v) for v in zip(*(v for _, v in parts))]


def _work(item): return work(item)


def judge_fold(dataset, encoder, jobs=1):
    "Results of all rows on one fold"
    hand, random = describe(dataset, encoder, jobs)
    rows = {'chance': None} | {title: hand[key] for key, title in row_titles.items()} | {random_row(seeds): random}
    return probe_all(rows, dataset)


def judge(name, encoder, jobs):
    "Name, groups, results on all folds, and the set; drums by another grouping, too"
    root = data_folder()/name
    if not (root/'labels.csv').exists(): fetchables[name].get(root)
    read = datasets[name]
    if name == 'soundtracks': results = judge_fold(first := read(root), encoder, jobs)
    else:
        global work
        first, work = read(root), lambda fold: judge_fold(read(root, fold=fold), encoder)
        results = sum(shared(_work, range(5), jobs), [])
    yield name, dict(hydrogen_drums='an instrument of a kit', freepats='an instrument', soundtracks='a piece')[name], results, first
    if name == 'hydrogen_drums':
        kits = dict(zip(first.table['path'], first.table['kit']))
        for r in results: r.predictions['group'] = r.predictions['clip'].map(kits)
        yield name, 'a kit', results, first


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--csv', type=Path, help='file to write')
    parser.add_argument('--encoder', default='tcn', help='architecture of the untrained rows')
    parser.add_argument('--sets', nargs='+', default=['hydrogen_drums', 'freepats', 'soundtracks'])
    parser.add_argument('--jobs', type=int, default=1, help='processes')
    args = parser.parse_args()
    tables = []
    for name in args.sets:
        for set_name, grouping, results, _ in judge(name, args.encoder, args.jobs):
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
