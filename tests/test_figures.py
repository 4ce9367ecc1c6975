"Every figure of a notebook has the common style."
from run_notebooks import ROOT, code_cells, notebooks
from execnb.nbio import read_nb


def draws(nb): return any('image/png' in output.get('data', {}) for cell in code_cells(nb) for output in cell.outputs)


def styled(nb): return any('figure_style()' in cell.source for cell in code_cells(nb))


def test_notebooks_that_draw_call_figure_style():
    plain = {path.relative_to(ROOT).as_posix() for path in notebooks() for nb in [read_nb(path)] if draws(nb) and not styled(nb)}
    assert not plain, f'call `figure_style()` of synthlab.figures beside the imports: {sorted(plain)}'
