"""Make a model of the package from a run: half precision, embeddings on one scale, a card, and the tracks it heard.

    python tools/ship.py runs/base mtssl-base --music stores/mixed --tracks music/licences.csv
    python tools/ship.py runs/tiny mtssl-tiny --music stores/mixed --tracks music/licences.csv --alone
    python benchmarks/shipped.py runs/answer --csv nbs/shipped.csv
    python tools/ship.py --cards    # writes the cards again, with those scores

The run's settings stand in `tools/models/NAME.yaml`; what a card says beside them in `tools/models/NAME.md`. `--alone` leaves the workers out.
"""
import argparse, json, shutil, tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from mtssl.core.files import open_weights, read_config, read_history, save_weights
from mtssl.core.shipped import shipped_models
from mtssl.embedding.embedding import embed_waves, standardise
from mtssl.encoding.card import model_card
from mtssl.encoding.encoder import Encoder
from mtssl.music.corpus import Corpus
from mtssl.music.crops import RandomCrops

root = Path(__file__).resolve().parent.parent
told = ['package', 'path', 'seconds', 'artist', 'title', 'licence', 'holders'] # of each track
licence = 'cc-by-sa-4.0'


def ship(run, name, music, tracks, alone):
    "The folder of a model, without its card"
    corpus, folder = Corpus(music), root/'mtssl'/'pretrained'/name
    encoder = Encoder.from_pretrained(run, device='cpu')
    crops = RandomCrops(corpus, 6., n=1024, silence=-60., seed=0)
    standardise(encoder, (wave.numpy() for i in range(0, len(crops), 16) for wave in crops[np.arange(i, i + 16)][0]))
    shutil.rmtree(folder, ignore_errors=True)
    encoder.save_pretrained(folder, half=True, license=licence, name=name)
    note_rounding(name, encoder, Encoder.from_pretrained(folder, device='cpu'), [*crops[np.arange(64)][0].numpy()])
    if alone:
        with open_weights(folder/'model.safetensors') as file: weights = {k: file.get_tensor(k) for k in file.keys() if k.startswith('encoder.')}
        save_weights(folder/'model.safetensors', weights)
        (folder/'statistics.safetensors').unlink()
    config = json.loads((folder/'config.json').read_text())
    config['data'] = heard(corpus, config['data'])
    (folder/'config.json').write_text(json.dumps(config, indent=1) + '\n')
    table = pd.read_csv(tracks, keep_default_na=False)[told]
    paths = set(corpus.tracks.path)
    table[[any(path.endswith(p) for path in paths) for p in table['path'].str.removeprefix('music/')]].to_csv(folder/'tracks.csv', index=False)


def note_rounding(name, exact, rounded, waves):
    "Write into nbs/shipped.json how far embeddings of the rounded weights are from those of the exact ones"
    a, b = (np.stack([*embed_waves(e, waves)]) for e in (exact, rounded))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    path = root/'nbs'/'shipped.json'
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | {name: dict(half=float(abs(a - b).max()), cosine=float(cosine.min()), clips=len(waves))}, indent=1) + '\n')


def heard(corpus, data):
    "What a run heard, with a name that says it"
    made = corpus.tracks.path.str.contains(r'^\d+/clip\d+$')
    return data | dict(name=f'{int(made.sum()):,} synthesised clips and {int((~made).sum()):,} tracks of free music')


def write_card(name, folder):
    "The card from the model's settings, its scores, and what is written about it by hand"
    table = pd.read_csv(root/'nbs'/'shipped.csv')
    rows = table[(table['amount'] == 'all') & ((table['kind'] == 'baseline') | table['features'].str.startswith((name, 'tcn, random')))]
    with tempfile.TemporaryDirectory() as temporary:
        rows.to_csv(scores := Path(temporary)/'scores.csv', index=False)
        text = model_card(Encoder.from_pretrained(name, device='cpu'), read_config(folder), history=read_history(folder), scores=scores,
                          license=licence, name=name)
    (folder/'README.md').write_text(text + '\n' + (root/'tools'/'models'/f'{name}.md').read_text(), encoding='utf-8')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('run', type=Path, nargs='?')
    parser.add_argument('name', nargs='?')
    parser.add_argument('--music', type=Path)
    parser.add_argument('--tracks', type=Path)
    parser.add_argument('--alone', action='store_true')
    parser.add_argument('--cards', action='store_true')
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.cards: [write_card(name, folder) for name, folder in shipped_models().items()]
    else: ship(args.run, args.name, args.music, args.tracks, args.alone)
