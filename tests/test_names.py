"""The names that the command line knows without asking are those that the registries hold."""
import json, sys

import pytest
from conftest import root, run


def test_names():
    "`mtssl/names.json` is what `tools/names.py` writes"
    done = run(sys.executable, '-W', 'ignore', root/'tools'/'names.py', '--check', cwd=root, check=False)
    if done.returncode: pytest.fail(done.stderr or done.stdout, pytrace=False)


def test_names_are_installed(installed):
    "The wheel has the file, and help reads it"
    names = json.loads((root/'mtssl'/'names.json').read_text())
    seen = run(installed.python, '-c', 'import json; from mtssl.app.cli import names; print(json.dumps(names))', env=installed.env)
    assert json.loads(seen.stdout) == names and 'tcn' in names['encoders']
