// The search box. Without scripts it stays hidden, and every sample is there to read.
const form = document.getElementById('search');
if (form) {
  const query = document.getElementById('query'), label = document.getElementById('label'), found = document.getElementById('found');
  const folded = text => text.normalize('NFKC').toLowerCase();
  const sections = [...document.querySelectorAll('section.label')].map(element => ({
    element, more: element.querySelector('details'),
    rows: [...element.querySelectorAll('.samples > li')].map(row => ({row, text: folded(row.firstElementChild.textContent)})),
  }));
  const all = sections.reduce((sum, s) => sum + s.rows.length, 0);
  const search = () => {
    const wanted = folded(query.value.trim());
    let count = 0;
    for (const {element, more, rows} of sections) {
      const chosen = !label.value || element.dataset.label === label.value;
      let here = 0;
      for (const {row, text} of rows) here += !(row.hidden = !(chosen && text.includes(wanted)));
      element.hidden = !chosen || (wanted && !here);
      if (more) { more.hidden = wanted && !more.querySelector('li:not([hidden])'); more.open = Boolean(wanted); }
      count += here;
    }
    found.textContent = wanted || label.value ? `${count} of ${all}` : '';
  };
  let waiting;
  query.addEventListener('input', () => { clearTimeout(waiting); waiting = setTimeout(search, 80); });
  label.addEventListener('change', search);
  form.addEventListener('submit', event => { event.preventDefault(); search(); });
  form.hidden = false;
}
