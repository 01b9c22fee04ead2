"""How far every encoder's exported files are from the encoder, by length of sound.

    python benchmarks/export.py                                     # a table, one row per encoder and format
    python benchmarks/export.py --json table.json                   # the same, in a file
    python benchmarks/export.py --only tcn,pase

Each encoder, at its smallest, is written as ONNX and as a program of `torch.export`, read back, and compared with itself at the
lengths that `mtssl export` compares: the largest difference of frames or embedding, relative to the largest value of that clip.
"""
import os
os.environ['OMP_NUM_THREADS'] = '1'

import argparse, json, platform, warnings
import numpy as np
import pandas as pd
import torch
from mtssl.core.files import versions
from mtssl.encoding.encoder import calibrate, encoders
from mtssl.encoding.export import _differences, _onnx_file, _program_file, _trace, metadata
from mtssl.music.synth.mix import synthesise

warnings.filterwarnings('ignore')
torch.set_num_threads(1)


def rows_of(name, music):
    "One row per format"
    torch.manual_seed(0)
    encoder = encoders.make('timm:test_efficientnet' if name == 'timm' else f'{name}:tiny')
    encoder = calibrate(encoder, [music[:, :3 * encoder.sr]])
    program = _trace(encoder)
    for kind, make in dict(onnx=_onnx_file, pt2=_program_file).items():
        content, run = make(program, metadata(encoder))
        differences = {f'{seconds:.3g} s': off for seconds, off in _differences(run, encoder, 'cpu').items()}
        if len(differences) == 6: differences = dict(zip(('1 hop', '2 hops', '5 hops', '7 hops', '2 s', '90 s'), differences.values()))
        yield dict(encoder=name, format=kind, MB=len(content) / 1e6, **differences)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--json', help='where to write it')
    parser.add_argument('--only', help='encoders, with commas between them')
    given, rows = parser.parse_args(), []
    music = torch.tensor(np.stack([wave for wave, _ in synthesise(3, 3., seed=0, jobs=1)])).float()
    for name in given.only.split(',') if given.only else sorted(encoders):
        rows += rows_of(name, music)
        print(pd.DataFrame(rows[-2:]).to_string(), flush=True)
    if given.json:
        with open(given.json, 'w') as file: json.dump(dict(rows=rows, versions=versions(), machine=platform.machine()), file, indent=1)
