"""What `musicnn` itself says, run by TensorFlow in an environment of its own; `musicnn.py` beside this file makes that environment and calls it.

    python original.py weights WHEEL MODEL weights.npz        # the variables of a checkpoint, by name
    python original.py features WHEEL MODEL sound.wav out.npz # what the package's own extractor gives of a sound

WHEEL is the folder into which the wheel was unpacked.
"""
import os, sys

os.environ.update(TF_USE_LEGACY_KERAS='1', TF_CPP_MIN_LOG_LEVEL='3')  # layers of TensorFlow 1 are in tf_keras
command, sys.path[0], model, *files = sys.argv[1:]  # in place of this folder, which has a file of the name of the package

import numpy as np
import tensorflow as tf

if command == 'weights':
    reader = tf.compat.v1.train.NewCheckpointReader(f'{sys.path[0]}/musicnn/{model}/')  # the prefix of its files is empty
    names = [n for n in reader.get_variable_to_shape_map() if 'Adam' not in n and not n.endswith('_power')]
    np.savez(files[0], **{n: reader.get_tensor(n) for n in names})
else:
    from musicnn.extractor import batch_data, extractor
    tags, _, features = extractor(files[0], model=model, extract_features=True)
    _, spectrogram = batch_data(files[0], 187, 187)
    np.savez(files[1], tags=tags, spectrogram=spectrogram, **features)
