"""Labels as people have them, and clips as accidents leave them: a table is read without a guess or refused by row, a clip is left out by name.

The tables are those that spreadsheets, R, pandas and Windows write of the same 24 clips; what is expected comes from the bytes that are written here.
"""
import json, os, warnings

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

names = [f'{i:03}.wav' for i in range(24)]
rows = [f'{name},{"rock" if i % 3 else "jazz"},{i % 2}' for i, name in enumerate(names)]
head = 'path,genre,mood'


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    "24 clips of half a second"
    folder = tmp_path_factory.mktemp('clips')
    for i, name in enumerate(names): soundfile.write(folder/name, .1 * np.random.default_rng(i).normal(size=11_025), 22_050)
    return folder


def table(folder, lines, encoding='utf-8', file='labels.csv', newline='\n'):
    (folder/file).write_bytes((newline.join(lines) + newline).encode(encoding))
    return folder/file


same = {
    'as it is': ([head, *rows],),
    'with a byte order mark': ([head, *rows], 'utf-8-sig', 'labels.csv', '\r\n'),
    'utf-16': ([head, *rows], 'utf-16'),
    'old line ends': ([head, *rows], 'utf-8', 'labels.csv', '\r'),
    'semicolons': ([line.replace(',', ';') for line in [head, *rows]],),
    'semicolons, announced': (['sep=;', *(line.replace(',', ';') for line in [head, *rows])],),
    'tabs': ([line.replace(',', '\t') for line in [head, *rows]], 'utf-8', 'labels.tsv'),
    'Unicode text of a spreadsheet': ([line.replace(',', '\t') for line in [head, *rows]], 'utf-16', 'labels.txt'),
    'empty rows': ([head, *rows, ',,', '', ',,'],),
    'row numbers without a name': ([',' + head, *(f'{i},{row}' for i, row in enumerate(rows))],),
    'row numbers by pandas': (['Unnamed: 0,' + head, *(f'{i},{row}' for i, row in enumerate(rows))],),
    'a title first': (['title,' + head, *(f'song {i},{row}' for i, row in enumerate(rows))],),
    'a delimiter at the end': ([head, *(row + ',' for row in rows)],),
    'an empty column': ([head + ',', *(row + ',' for row in rows)],),
    'spaces': ([head.replace(',', ' , '), *(row.replace(',', ' , ') for row in rows)],),
    'capitals': ([head.replace('path', 'Path'), *rows],),
    'quotation marks': ([head, *(','.join(f'"{cell}"' for cell in row.split(',')) for row in rows)],),
    'Windows': ([head, *('.\\' + row for row in rows)],),
    'detours': ([head, *('./album/../' + row for row in rows)],),
    'an empty split': ([head + ',split', *(row + ',' for row in rows)],)}


@pytest.mark.parametrize('name', same)
def test_one_set_in_many_spellings(name, clips):
    from mtssl import labelled_set
    expected, read = labelled_set(table(clips, *same['as it is'])), labelled_set(table(clips, *same[name]))
    assert read.table[['path', 'genre', 'mood', 'split']].to_dict('list') == expected.table[['path', 'genre', 'mood', 'split']].to_dict('list')
    assert list(read.tasks) == ['genre', 'mood'] and read.table['genre'].tolist() == ['rock' if i % 3 else 'jazz' for i in range(24)]


with_split = [f'{row},{"train" if i % 4 else "test"}' for i, row in enumerate(rows)]
refused = {
    'a split partly empty': ([head + ',split', with_split[0], rows[1] + ',', *with_split[2:]], 'row 3: no split'),
    'an unknown split': ([head + ',split', *with_split[:5], rows[5] + ',holdout', *with_split[6:]], "row 7: there is no split named 'holdout'"),
    'a clip spelt twice': ([head, *rows, './' + rows[0]], '000.wav stands in rows 2 and 26'),
    'a cell too many': ([head, *rows[:4], rows[4] + ',loud', *rows[5:]], 'row 6: 4 cells below 3 names'),
    'no path': ([head, *rows, ',rock,1'], 'row 26: no path'),
    'another encoding': ([head, *rows, '000.wav,zouk béguine,1'], 'row 26: the byte 0xe9 is not text in UTF-8', 'latin-1'),
    'a quotation mark': ([head, rows[0], '001.wav,"rock,1', *rows[2:]], 'row 3: not a row of a table'),
    'a column twice': (['path,genre,genre', *rows], "'genre' as the name of more than one column"),
    'numbers alone': (['path,bpm', *(f'{name},{100 + i}{".5" if i % 2 else ""}' for i, name in enumerate(names))], "tasks={'bpm': 'regression'}"),
    'no table': (['\0\1\2' * 100], 'is not a table of text'),
    'nothing': ([''], 'is empty')}


@pytest.mark.parametrize('name', refused)
def test_refused_by_row(name, clips):
    from mtssl import labelled_set
    lines, reason, *encoding = refused[name]
    with pytest.raises(ValueError) as e: labelled_set(table(clips, lines, *encoding))
    assert reason in str(e.value) and str(e.value).startswith('labels.csv') and len(str(e.value).splitlines()) == 1, str(e.value)


def test_values(clips):
    "Tags as True and False are 1 and 0, an empty label is no label, splits are read in any case, numbers by their task"
    from mtssl import labelled_set
    tags = labelled_set(table(clips, ['path,tag.rock,tag.jazz', *(f'{name},{bool(i % 3)},{"TRUE" if i % 2 else "false"}' for i, name in enumerate(names))]))
    assert tags.table['tag.rock'].tolist() == [float(i % 3 > 0) for i in range(24)] and tags.table['tag.jazz'].tolist() == [float(i % 2) for i in range(24)]
    lacking = labelled_set(table(clips, [head, f'{names[0]},,1', *rows[1:]]))
    assert lacking.tasks['genre'].labelled(lacking.table).tolist() == [False] + [True] * 23
    cased = labelled_set(table(clips, [head + ',split', *(f'{row},{"Train" if i % 4 else "TEST"}' for i, row in enumerate(rows))]))
    assert cased.table['split'].tolist() == ['train' if i % 4 else 'test' for i in range(24)]
    bpm = [head + ',bpm', *(f'{row},{100 + i if i != 9 else "fast"}' for i, row in enumerate(rows))]
    with pytest.raises(ValueError, match="labels.csv, Task 'bpm' of type tempo has 'fast' for a label in row 11"): labelled_set(table(clips, bpm), tasks=dict(bpm='tempo'))


def test_one_sound_is_on_one_side(clips):
    from mtssl import labelled_set
    os.link(clips/names[0], clips/'again.wav')
    both = labelled_set(table(clips, [head, *rows, 'again.wav,jazz,0'])).table.set_index('path')
    assert both.loc['again.wav', 'group'] == both.loc[names[0], 'group'] and both.loc['again.wav', 'split'] == both.loc[names[0], 'split']
    with pytest.raises(ValueError, match='000.wav and again.wav are one file, in more than one split'):
        labelled_set(table(clips, [head + ',split', *with_split, 'again.wav,jazz,0,train']))


def test_clips_left_out_at_the_command_line(clips, tmp_path):
    "One file that breaks off, one empty, one of 100 samples, one missing, one link to itself, one 30 ms short: five are named and left out, one is kept and named"
    from mtssl import labelled_set
    from mtssl.app.cli import app
    from mtssl.encoding.encoder import encoders
    encoders.make('tcn(width=16, blocks=2)', sr=22_050).save_pretrained(tmp_path/'model')
    home = tmp_path/'clips'
    home.mkdir()
    for name in names: (home/name).write_bytes((clips/name).read_bytes())
    whole = (home/names[1]).read_bytes()
    (home/names[1]).write_bytes(whole[:44 + 11_025]) # a quarter of a second of half a second, at 2 bytes per sample
    (home/names[2]).write_bytes(b'')
    soundfile.write(home/names[3], np.ones(100), 22_050)
    (home/names[4]).unlink()
    (home/names[5]).unlink()
    (home/names[5]).symlink_to(names[5])
    (home/names[6]).write_bytes((clips/names[6]).read_bytes()[:-2 * 441]) # 20 ms of 500 are 4 %, and 5 % may be missing
    table(home, [head + ',split', *with_split])
    done = CliRunner().invoke(app, ['probe', str(tmp_path/'model'), str(home), '--probe', 'knn', '--json', '--quiet'], catch_exceptions=False)
    done = json.loads(done.stdout)
    assert list(done['left_out']) == names[1:6] and list(done['notes']) == [names[6]] and '0.02 s' in done['notes'][names[6]], done
    for name, part in zip(names[1:6], ('0.25 s of the 0.50 s', '0 bytes', 'too short', 'no such file', '')): assert part in done['left_out'][name], done['left_out']
    with pytest.raises(ValueError) as e: labelled_set(home, strict=True)
    assert str(e.value).startswith('clips: 5 of 24 clips are left out: 001.wav (truncated') and len(str(e.value).splitlines()) == 1, str(e.value)


def test_what_exists_is_not_always_sound(tmp_path):
    "A published set whose files are there by name: what does not decode is left out, with `partial=True` and without"
    from mtssl.probing.labelled import LeftOut
    from mtssl.probing.public_sets import write_text, write_tones
    from mtssl.probing.tagging_sets import fma
    ids = [2, 5, 10, 140, 141, 148, 1000, 1001, 1002, 1003]
    lines = [f"{i},{k % 5},{'test' if k > 6 else 'training'},small,{('Rock', 'Folk')[k % 2]},[21]" for k, i in enumerate(ids)]
    write_text(tmp_path/'fma_metadata'/'tracks.csv', '\n'.join([',artist,set,set,track,track', ',id,split,subset,genre_top,genres_all', 'track_id,,,,,', *lines]))
    paths = [f'fma_small/{i // 1000:03d}/{i:06d}.mp3' for i in ids]
    write_tones(tmp_path, paths)
    (tmp_path/paths[1]).write_bytes((tmp_path/paths[1]).read_bytes()[:200])
    with pytest.warns(LeftOut, match='fma_small: 1 of 10 clips is left out: fma_small/000/000005.mp3'): assert len(fma(tmp_path)) == 9
    (tmp_path/paths[2]).unlink()
    with pytest.raises(ValueError, match='1 of 10 audio files are missing'): fma(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', LeftOut)
        assert list(fma(tmp_path, partial=True).left_out) == paths[1:3]
