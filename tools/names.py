"""Write `mtssl/names.json`: the names that the command line completes and lists, asked from the registries.

    python tools/names.py            # after nbdev_export
    python tools/names.py --check    # exit code 1 if the file is out of date

Help and completion answer at once, and importing the registries takes seconds; so the names stand in a file.
"""
import json, sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root))


def names():
    "Kind -> sorted names"
    import mtssl.encoding, mtssl.probing # noqa: F401, whose rooms register theirs
    from mtssl.encoding.encoder import encoders
    from mtssl.features.targets import targets
    from mtssl.pretraining.distortions import distortion_sets, distortions
    from mtssl.pretraining.weighting import weightings
    from mtssl.pretraining.workers import worker_sets, workers
    from mtssl.probing.labelled import datasets
    from mtssl.studies.plan import shipped_studies
    kinds = dict(targets=targets, encoders=encoders, workers={*workers, *worker_sets, *targets}, weightings=weightings,
                 distortions={*distortions, *distortion_sets}, datasets=datasets,
                 studies=shipped_studies())
    return {kind: sorted(known) for kind, known in kinds.items()}


if __name__ == '__main__':
    path, text = root/'mtssl'/'names.json', json.dumps(names(), indent=1) + '\n'
    if '--check' not in sys.argv: path.write_text(text)
    elif not path.exists() or path.read_text() != text: sys.exit('mtssl/names.json is not what the registries hold: run `make export`.')
