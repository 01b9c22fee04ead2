"""Would another probe, or another layer, have given the study `answer` another answer?

    mtssl study answer --root DATA --out runs/answer
    python benchmarks/answer.py runs/answer --csv nbs/answer_probes.csv

Every finished cell of the study is embedded and judged again: by the study's linear probe on the last layer alone, and by nearest
neighbours and a small network on the study's own vectors. The lines are those of a study, with the layers beside them. It goes on where it was stopped.
"""
import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from joblib import Parallel, delayed
from mtssl.core.files import write_atomically
from mtssl.embedding.embedding import layer_slices
from mtssl.encoding.encoder import Encoder
from mtssl.probing.baselines import embed_set
from mtssl.studies.jobs import load_job, open_sets, probe_cell
from mtssl.studies.plan import read_study

torch.set_num_threads(1)
facts = ['features', 'kind', 'encoder', 'workers', 'weighting', 'seed']


def judged_again(cell, study, folder):
    "Lines of one cell by the other probes and layers, kept beside the cell's own"
    kept = cell/'other_probes.csv'
    if kept.exists(): return pd.read_csv(kept)
    torch.set_num_threads(1)
    encoder, sets, of = Encoder.from_pretrained(cell, device='cpu'), open_sets(folder), load_job(cell)[0][facts].iloc[0].to_dict()
    vectors = {n: embed_set(encoder, s, bs=8, quiet=True) for n, s in sets.items()}
    *_, last = layer_slices(encoder).values()
    lines_of = lambda kinds, vectors: probe_cell(replace(study, probes=kinds), of, vectors, sets)[0]
    lines = pd.concat([lines_of(['knn', 'mlp'], vectors).assign(layers='first, middle, last'),
                       lines_of(['linear'], {n: X[:, last] for n, X in vectors.items()}).assign(layers='last')])
    write_atomically(kept, lambda path: lines.to_csv(path, index=False))
    return lines


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', type=Path, help='folder of the study `answer`')
    parser.add_argument('--csv', type=Path, required=True)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='cells of which seeds')
    parser.add_argument('--jobs', type=int, default=2)
    args = parser.parse_args()
    cells = [p.parent for p in sorted((args.study/'cells').glob('*/lines.csv')) if int(p.parent.name.rpartition(' ')[2]) in args.seeds]
    study = read_study('answer', '.')
    tables = Parallel(args.jobs)(delayed(judged_again)(cell, study, args.study) for cell in cells)
    pd.concat(tables)[[*facts, 'layers', 'set', 'task', 'probe', 'metric', 'value', 'low', 'high']].round(4).to_csv(args.csv, index=False)
