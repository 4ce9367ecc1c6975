"The ten things that a Python user types first, as a notebook that runs from top to bottom in an empty folder."
import os
import subprocess
import sys
from pathlib import Path

import pytest
from execnb.nbio import read_nb

NOTEBOOK = Path(__file__).parent/'notebooks'/'first_ten.ipynb'
RUN = '''
import sys
from execnb.nbio import read_nb, write_nb
from execnb.shell import CaptureShell
nb = read_nb(sys.argv[1])
CaptureShell().run_all(nb, exc_stop=True)
write_nb(nb, 'done.ipynb')
'''


@pytest.mark.long
def test_the_first_ten_things_work(tmp_path):
    environment = os.environ | {'PYTHONPATH': os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent/'tools')]), 'MPLBACKEND': 'agg'}
    found = subprocess.run([sys.executable, '-c', RUN, str(NOTEBOOK)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]
    done = read_nb(tmp_path/'done.ipynb')
    headings = [cell.source for cell in done.cells if cell.cell_type == 'markdown' and cell.source.startswith('## ')]
    assert [heading.split('.')[0] for heading in headings] == [f'## {number}' for number in range(1, 11)]
    html = [''.join(output['data']['text/html']) for cell in done.cells for output in cell.get('outputs', ()) if 'text/html' in output.get('data', {})]
    assert len(html) >= 3, 'a record, a comparison and a report show themselves'
    assert sorted(path.name for path in (tmp_path/'runs').iterdir()) == ['ag_news-corrsynth-1', 'ag_news-fewgen-1', 'ag_news-fewgen-2', 'spam-corrsynth-1', 'spam-simprompt-1', 'sst2-corrsynth-1']
