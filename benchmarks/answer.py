"""Would another probe, or another layer, have given the study `answer` another answer?

    mtssl study answer --root DATA --out runs/answer
    python benchmarks/answer.py runs/answer --csv nbs/answer_probes.csv

Every finished cell of the study, its random-initialised encoders and the hand-crafted features are judged again: by nearest neighbours and
by a small network on the study's own vectors, and by the study's linear probe on the last layer alone. For each of these ways, and for the
study's own, the CSV holds every row's mean scores and their differences from `music` with equal weights, with intervals over clips and
seeds. What a cell said is kept beside it, so that this goes on where it was stopped.
"""
import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from mtssl.embedding.embedding import layer_slices
from mtssl.encoding.encoder import Encoder, encoders
from mtssl.probing.baselines import embed_set, handcrafted, row_titles
from mtssl.studies.jobs import load_job, open_music, open_sets, probe_cell, save_job
from mtssl.studies.plan import read_study
from mtssl.studies.study import comparison_at
from shipped import alone, calibrated

facts = ['features', 'kind', 'encoder', 'workers', 'weighting', 'seed', 'step']
own = 'linear, first, middle and last layer'
asked = {'nearest neighbours, first, middle and last layer': ('knn', False), 'small network, first, middle and last layer': ('mlp', False),
         'linear, last layer': ('linear', True)}


def vectors_of(job, line, study, folder):
    "Vectors of every set for one row and seed, and which columns are of the last layer"
    sets = open_sets(folder)
    if line['kind'] == 'baseline': return {n: handcrafted(s.waves(), sr=s.load.sr, bs=8)['handcrafted'] for n, s in sets.items()}, slice(None)
    if line['kind'] == 'random':
        config = encoders.make(study.encoders[line['encoder']], sr=study.settings.sr).config
        encoder = calibrated(config, line['seed'], study, open_music(study, folder))
    else: encoder = Encoder.from_pretrained(job, device='cpu')
    *_, last = layer_slices(encoder).values()
    return {n: embed_set(encoder, s, bs=8, quiet=True) for n, s in sets.items()}, last


def judge_again(job, line, study, folder):
    "One row and seed by all other ways, kept beside its job"
    kept = job/f"other ways {line['seed']}"
    if (kept/'lines.csv').exists(): return
    sets, (vectors, last) = open_sets(folder), vectors_of(job, line, study, folder)
    def by(way, probe, last_alone):
        x = {n: v[:, last] for n, v in vectors.items()} if last_alone else vectors
        lines, draws, results = probe_cell(replace(study, probes=[probe]), line, x, sets)
        return lines.assign(probe=way), draws, results
    save_job(kept, [by(way, *how) for way, how in asked.items()])


def judged(study, folder):
    "Lines and draws of the study and of all other ways, for rows and seeds that have all"
    lines, draws = [], []
    for job in sorted({p.parent.parent for p in folder.glob('*/*/other ways */lines.csv')}):
        l, d = load_job(job)
        kept = [load_job(p.parent) for p in job.glob('other ways */lines.csv')]
        seeds, rows = {s for k, _ in kept for s in k['seed']}, {f for k, _ in kept for f in k['features']}
        last = ~l.duplicated(['features', 'seed', 'task'], keep='last') # step of the pre-training
        chosen = (last & l['seed'].isin(seeds) & l['features'].isin(rows)).to_numpy()
        for more, drawn in [(l[chosen].assign(probe=own), d[chosen]), *kept]: lines, draws = [*lines, more], [*draws, drawn]
    return pd.concat(lines, ignore_index=True), np.concatenate(draws)


def table(study, lines, draws):
    "Scores and differences from the study's baseline, by every way"
    base, found = ', '.join(study.baseline[k] for k in ('encoder', 'workers', 'weighting')), []
    for way in [own, *asked]:
        c = comparison_at(lines, draws, study, probe=way)
        scores = c.summary()[['features', 'kind', 'seeds', 'task', 'value']]
        more = c.differences_table({f: [base] for f in c.rows})[['features', 'task', 'value', 'low', 'high', 'p']]
        found.append(scores.merge(more.rename(columns=dict(value='difference')), 'left', ['features', 'task']).assign(probe=way))
    return pd.concat(found).query("task.str.startswith('mean')").round(4)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', type=Path, help='folder of the study `answer`')
    parser.add_argument('--csv', type=Path, required=True)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='of which seeds')
    parser.add_argument('--jobs', type=int, default=2)
    args = parser.parse_args()
    study = read_study('answer', '.')
    finished = [p.parent for part in ('baselines', 'cells') for p in sorted((args.study/part).glob('*/lines.csv'))]
    lines_of = lambda job: load_job(job)[0].reindex(columns=facts).drop_duplicates(['features', 'seed'], keep='last')
    work = [(job, line, study, args.study) for job in finished for line in lines_of(job).to_dict('records')
            if line['seed'] in args.seeds and (line['kind'] != 'baseline' or line['features'] == row_titles['handcrafted'])]
    Parallel(args.jobs)(delayed(alone)(judge_again, *w) for w in work)
    table(study, *judged(study, args.study)).to_csv(args.csv, index=False)
