"""Real recordings from Debian's archive: one set is fetched and probed, by the commands that a newcomer types."""
import os

import pytest
from typer.testing import CliRunner


@pytest.fixture(scope='module')
def drums(tmp_path_factory):
    "The folder that `mtssl fetch hydrogen_drums` made; MTSSL_PACKAGES may name a folder of packages that were downloaded before"
    from mtssl.app.cli import app
    from mtssl.core.downloads import fetchables
    from mtssl.music.debian import NoArchive, archive_packages
    import mtssl.probing.free_sets  # noqa: F401, which registers it
    try: there = archive_packages(['hydrogen-data', 'hydrogen-drumkits'])
    except NoArchive as e: pytest.skip(str(e))
    if len(there) < 2: pytest.skip(f'The archive of this distribution has only {", ".join(there) or "neither"} of the packages of Hydrogen.')
    out, cache = tmp_path_factory.mktemp('data')/'drums', os.environ.get('MTSSL_PACKAGES')
    if cache: return fetchables['hydrogen_drums'].get(out, cache=cache, quiet=True)
    done = CliRunner().invoke(app, ['fetch', 'hydrogen_drums', '--out', str(out), '--yes', '--quiet'])
    if done.exit_code and 'cannot be downloaded' in done.output: pytest.skip(' '.join(done.output.split()))
    assert done.exit_code == 0, done.output
    assert '10 classes' in done.output and 'GPL-2+' in done.output and 'mtssl probe' in done.output, done.output
    return out


def test_drums(drums):
    "Ten drums, kits apart, a licence for every clip but none"
    from mtssl.probing.free_sets import hydrogen_drums
    table = hydrogen_drums(drums, fold=2).table
    assert len(table) > 400 and table['drum'].nunique() == 10 and table['kit'].nunique() >= 12
    assert table.groupby('kit')['split'].nunique().max() == 1 and 'The Black Pearl 1.0' not in set(table['kit'])
    assert (table['licence'] != 'unknown').all() and len(list((drums/'copyright').iterdir())) == 2
    tested = [set(hydrogen_drums(drums, fold=k).table.query("split == 'test'")['kit']) for k in range(5)]
    assert set.union(*tested) == set(table['kit']) and sum(map(len, tested)) == table['kit'].nunique()


def test_probe(drums):
    "Features of timbre tell drums of kits that were not heard, chance does not; and an untrained encoder runs on them"
    from mtssl.encoding.encoder import encoders
    from mtssl.probing.baselines import embed_set, handcrafted, untrained
    from mtssl.probing.free_sets import hydrogen_drums
    from mtssl.probing.probes import probe_all
    dataset = hydrogen_drums(drums)
    config = encoders.make('tcn(width=32, blocks=2)').config
    encoder = untrained(config, [w[:22050].copy() for w in dataset.waves(22050, dataset.rows('train')[:64])])
    features = {'chance': None, 'random': embed_set(encoder, dataset, quiet=True)} | handcrafted(dataset, {'mfcc': ('mfcc',)})
    scores = {r.features: r.score.value for r in probe_all(features, dataset)}
    assert scores['mfcc'] > .5 > .35 > scores['chance'] and scores['random'] > .5, scores
