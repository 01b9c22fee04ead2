"""Multi-task self-supervised pre-training of music encoders.

`import mtssl` is instant: the names below are imported from their rooms when they are first used.
"""
__version__ = "0.1.0"

_front_door = {
    'mtssl.music.corpus': ('Corpus', 'build_corpus'),
    'mtssl.music.synth.mix': ('synthesise',),
    'mtssl.features.analysis': ('Analysis',),
    'mtssl.features.targets': ('Target', 'targets'),
    'mtssl.encoding.encoder': ('Encoder', 'encoders'),
    'mtssl.pretraining.distortions': ('distortions',),
    'mtssl.pretraining.workers': ('workers',),
    'mtssl.pretraining.weighting': ('weightings',),
    'mtssl.pretraining.learner': ('pretrain_learner',),
    'mtssl.pretraining.runs': ('pretrain', 'resume'),
    'mtssl.embedding.embedder': ('MusicEmbedder',),
    'mtssl.embedding.maps': ('music_map',),
    'mtssl.probing.labelled': ('datasets',),
    'mtssl.probing.datasets': ('labelled_set',),
    'mtssl.probing.probes': ('probe', 'probe_all'),
    'mtssl.probing.classifier': ('Classifier',),
    'mtssl.studies.plan': ('read_study',),
    'mtssl.studies.study': ('run_study',),
}
_room_of = {name: room for room, names in _front_door.items() for name in names}
__all__ = sorted(_room_of)


def __getattr__(name):
    if name not in _room_of: raise AttributeError(f"module 'mtssl' has no attribute {name!r}; it has {', '.join(__all__)}, and its rooms, such as mtssl.pretraining.learner.")
    from importlib import import_module
    value = globals()[name] = getattr(import_module(_room_of[name]), name)
    return value


def __dir__(): return sorted([*__all__, '__version__'])
