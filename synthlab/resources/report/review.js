// Rows are data: every text reaches the page by textContent.
const DATA = JSON.parse(document.getElementById('data').textContent);
const KEY = `synthlab-review ${DATA.page}`, SIZE = 100, Z = 1.959963984540054;
const COLUMNS = ['id', 'state', 'label_human', 'label', 'note', 'reviewer', 'date', 'blind', 'order', 'page', 'hash', 'text'];
const UNSEEN = /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\u{e0000}-\u{e007f}]/gu;
const $ = id => document.getElementById(id);
const names = DATA.labels, rows = DATA.rows, places = new Map(rows.map((row, i) => [row.id, i]));
const width = names.length > 10 ? String(names.length).length : 1;
const digits = i => width === 1 ? String((i + 1) % 10) : String(i + 1).padStart(width, '0');
const fresh = () => ({at: 0, table: false, single: true, reviewer: '', revealed: false, judged: {}, history: []});
let state = fresh(), typed = '', keeps = true;

// ---- arithmetic
function wilson(k, n) {
  const p = k/n, z2 = Z*Z, middle = (p + z2/(2*n))/(1 + z2/n), half = Z*Math.sqrt(p*(1 - p)/n + z2/(4*n*n))/(1 + z2/n);
  return [k === 0 ? 0 : Math.max(0, middle - half), k === n ? 1 : Math.min(1, middle + half)];
}
const percent = share => share === 0 || share === 1 ? `${100*share}%` : `${(100*share).toFixed(1)}%`;
const isJudged = entry => Boolean(entry) && ['confirmed', 'changed', 'rejected'].includes(entry.state);
const hides = () => DATA.blind && !state.revealed;

// ---- what is kept
function keep() {
  try { localStorage.setItem(KEY, JSON.stringify(state)); keeps = true; } catch { keeps = false; }
  if (!keeps) $('kept').textContent = 'This browser does not keep your judgements (no room, or storage is off): export them before you close the page.';
}
function recall() {
  try { const found = JSON.parse(localStorage.getItem(KEY)); state = found && found.judged ? {...fresh(), ...found} : fresh(); } catch { state = fresh(); }
  if (!(state.at >= 0 && state.at < rows.length)) state.at = 0;
}

// ---- what is shown
function show(element, text) {
  const parts = []; let from = 0;
  for (const found of text.matchAll(UNSEEN)) {
    const mark = document.createElement('span');
    mark.className = 'ctl';
    mark.textContent = `‹U+${found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}›`;
    parts.push(text.slice(from, found.index), mark);
    from = found.index + found[0].length;
  }
  element.replaceChildren(...parts, text.slice(from));
  return element;
}
function make(tag, text, more = {}) { return show(Object.assign(document.createElement(tag), more), text); }
function told(entry) {
  if (!entry || !entry.state) return '';
  if (entry.state === 'skipped' || entry.state === 'rejected') return entry.state;
  return hides() ? entry.label_human : `${entry.state}: ${entry.label_human}`;
}
function drawLabels() {
  names.forEach((name, i) => {
    const button = make('button', '', {type: 'button'}), word = make('bdi', name);
    button.append(make('kbd', digits(i)), ' ', word);
    button.addEventListener('click', () => judge(name));
    $('labels').append(button);
  });
  const last = names.length - 1, span = last ? `${digits(0)} – ${digits(last)}` : digits(0);
  $('digits').textContent = span;
  $('digits-how').textContent = width === 1 ? 'choose a label' : `choose a label by its number: type all ${width} digits, Esc forgets the first`;
  $('finder').hidden = $('find-key').hidden = names.length < 10;
}
function drawRow() {
  const row = rows[state.at], entry = state.judged[row.id] || {};
  $('place').textContent = `Row ${state.at + 1} of ${rows.length}`;
  show($('state'), told(entry));
  show($('text'), row.text);
  $('text').tabIndex = $('text').scrollHeight > $('text').clientHeight + 1 ? 0 : -1;
  show($('asked').querySelector('b'), row.label);
  const wanted = $('find').value.trim().toLowerCase();
  [...$('labels').children].forEach((button, i) => {
    button.setAttribute('aria-pressed', String(isJudged(entry) && entry.label_human === names[i]));
    button.hidden = Boolean(typed) && !digits(i).startsWith(typed) || Boolean(wanted) && !names[i].toLowerCase().includes(wanted);
  });
  $('reject').setAttribute('aria-pressed', String(entry.state === 'rejected'));
  $('skip-row').setAttribute('aria-pressed', String(entry.state === 'skipped'));
  if (document.activeElement !== $('note')) $('note').value = entry.note || '';
  $('back').disabled = state.at === 0;
  $('forward').disabled = state.at === rows.length - 1;
  $('undo').disabled = !state.history.length;
}
function drawTable() {
  $('table').hidden = !state.table;
  $('card').hidden = state.table;
  $('asked').hidden = state.table || hides();
  $('one').setAttribute('aria-pressed', String(!state.table));
  $('all').setAttribute('aria-pressed', String(state.table));
  if (!state.table) return;
  const start = Math.floor(state.at/SIZE)*SIZE, end = Math.min(rows.length, start + SIZE);
  $('span').textContent = `Rows ${start + 1} to ${end} of ${rows.length}`;
  $('earlier').disabled = start === 0;
  $('later').disabled = end === rows.length;
  $('pages').hidden = rows.length <= SIZE;
  $('lines').replaceChildren(...rows.slice(start, end).map((row, i) => drawLine(row, start + i)));
}
function drawLine(row, i) {
  const line = make('tr', ''), entry = state.judged[row.id] || {}, head = make('th', '', {scope: 'row'}), cell = make('td', '');
  const button = make('button', String(i + 1), {type: 'button', className: 'row'});
  button.setAttribute('aria-label', `Row ${i + 1}`);
  head.append(button);
  cell.append(make('p', row.text, {className: 'text', dir: 'auto'}));
  const asked = make('td', hides() ? '' : row.label, {className: 'led'});
  asked.hidden = hides();
  line.append(head, cell, asked, make('td', told(entry)), make('td', entry.note || ''));
  if (i === state.at) line.setAttribute('aria-current', 'true');
  line.addEventListener('click', () => go(i));
  return line;
}
function drawShares() {
  const counts = new Map(), all = {n: 0, k: 0, rejected: 0}, skipped = Object.values(state.judged).filter(entry => entry.state === 'skipped').length;
  for (const row of rows) {
    const entry = state.judged[row.id];
    if (!isJudged(entry)) continue;
    const own = counts.get(row.label) || {n: 0, k: 0, rejected: 0};
    for (const count of [own, all]) { count.n += 1; count.k += entry.state === 'confirmed'; count.rejected += entry.state === 'rejected'; }
    counts.set(row.label, own);
  }
  const estimate = DATA.order === 'random', left = rows.length - all.n - skipped;
  $('progress').max = rows.length; $('progress').value = all.n + skipped;
  $('count').textContent = `${all.n} judged${skipped ? `, ${skipped} skipped` : ''}, ${left} left`;
  $('hidden-so-far').hidden = !hides();
  $('by-label').hidden = hides() || !all.n;
  document.querySelectorAll('.led').forEach(element => { if (element.tagName !== 'TD' && element.id !== 'asked') element.hidden = hides(); });
  document.querySelectorAll('.estimate').forEach(element => { element.hidden = !estimate; });
  $('agreed').textContent = hides() ? 'Hidden for now, since it would tell you the asked labels. What you judge after you have seen them does not count as blind.'
    : !all.n ? 'Nothing is judged yet.' : `${all.k} of ${all.n} asked labels were confirmed: ${percent(all.k/all.n)}`
    + (estimate ? `, 95% interval ${wilson(all.k, all.n).map(percent).join(' to ')}.` : '. These rows were put first because their labels are doubted, so this is no estimate for the others.')
    + (all.rejected ? ` Rejected rows (${all.rejected}) count as not confirmed.` : '');
  const line = (name, {n, k, rejected}) => {
    const found = make('tr', '');
    found.append(make('th', name, {scope: 'row'}), ...[n, k, rejected, percent(k/n)].map(cell => make('td', String(cell))));
    if (estimate) found.append(make('td', wilson(k, n).map(percent).join(' to ')));
    return found;
  };
  $('shares').replaceChildren(...(hides() ? [] : names.filter(name => counts.has(name)).map(name => line(name, counts.get(name)))));
}
function draw() { drawShares(); drawTable(); drawRow(); }
function say(text) { show($('said'), text); }

// ---- what is done
function focusRow() {
  if (!state.table) {
    $('card').focus({preventScroll: true});
    // Text, labels and what was said in one view, as far as the window allows.
    if ($('card').getBoundingClientRect().top < 0 || $('said').getBoundingClientRect().bottom > innerHeight) $('card').scrollIntoView({block: 'start', behavior: 'instant'});
    return;
  }
  const line = $('lines').querySelector('[aria-current]');
  line.querySelector('button').focus({preventScroll: true});
  line.scrollIntoView({block: 'nearest', behavior: 'instant'});
}
function go(i, words = '') {
  const before = state.at;
  state.at = Math.min(Math.max(i, 0), rows.length - 1);
  typed = ''; $('find').value = '';
  keep(); draw(); focusRow(); say(words);
  if (state.at !== before) $('text').scrollTop = 0;
}
function change(entries) {
  state.history.push(Object.keys(entries).map(id => [id, state.judged[id] || null]));
  state.history = state.history.slice(-50);
  for (const [id, entry] of Object.entries(entries)) { if (entry) state.judged[id] = entry; else delete state.judged[id]; }
}
function nextOpen() {
  for (let step = 1; step <= rows.length; step++) {
    const i = (state.at + step) % rows.length, entry = state.judged[rows[i].id];
    if (!entry || !entry.state) return i;
  }
  return -1;
}
function settle(how, label) {
  const row = rows[state.at], note = (state.judged[row.id] || {}).note || '', date = `${new Date().toISOString().slice(0, 19)}Z`;
  change({[row.id]: {state: how, label_human: label, note, date, blind: DATA.blind && !state.revealed}});
  const words = `Row ${state.at + 1}: ${told(state.judged[row.id])}.`, next = nextOpen();
  go(next < 0 ? state.at : next, next < 0 ? `${words} All rows are judged or skipped: export them below.` : words);
}
function judge(label) { settle(label === rows[state.at].label ? 'confirmed' : 'changed', label); }
function undo() {
  const last = state.history.pop();
  if (!last) return say('There is nothing to undo.');
  for (const [id, entry] of last) { if (entry) state.judged[id] = entry; else delete state.judged[id]; }
  go(places.get(last[0][0]) ?? state.at, 'Undone.');
}
function digit(key) {
  typed += key;
  const found = names.findIndex((_, i) => digits(i) === typed), open = names.some((_, i) => digits(i).startsWith(typed));
  if (found >= 0) { typed = ''; judge(names[found]); return; }
  say(open ? `${typed}${'_'.repeat(width - typed.length)}` : `No label has the number ${typed}.`);
  if (!open) typed = '';
  drawRow();
}
const isLong = () => $('text').tabIndex === 0;
function scrollText(way) { $('text').scrollBy({top: way*$('text').clientHeight/3, behavior: 'instant'}); }
function view(table) { state.table = table; keep(); draw(); focusRow(); }

// ---- export and import
const guarded = text => /^[=+\-@\t\r\n＝＋－＠']/.test(text) ? `'${text}` : text;
const bare = text => /^'[=+\-@\t\r\n＝＋－＠']/.test(text) ? text.slice(1) : text;
function reviews() {
  return rows.filter(row => state.judged[row.id]).map(row => {
    const entry = state.judged[row.id];
    return {id: row.id, hash: row.hash, label: row.label, state: entry.state || 'skipped', label_human: entry.label_human ?? null, note: entry.note || '', date: entry.date || '', blind: Boolean(entry.blind)};
  });
}
function asJson() {
  const {page, name, task, labels, order, seed, blind, of} = DATA;
  return JSON.stringify({synthlab_review: 1, page, name, task, labels, order, seed, blind, rows: rows.length, of, reviewer: state.reviewer, reviews: reviews()}, null, 1);
}
function asCsv() {
  const quoted = value => `"${guarded(String(value ?? '')).replaceAll('"', '""')}"`;
  const lines = reviews().map(review => ({...review, reviewer: state.reviewer, order: DATA.order, page: DATA.page, text: rows[places.get(review.id)].text}));
  return `\ufeff${[COLUMNS.join(','), ...lines.map(line => COLUMNS.map(name => quoted(line[name])).join(','))].join('\r\n')}\r\n`;
}
function download(text, kind, type) {
  if (!Object.keys(state.judged).length) return say('There is nothing to export yet.');
  const link = document.createElement('a'), stem = [DATA.name, 'review', state.reviewer].filter(Boolean).join('-').replace(/[^\p{L}\p{N}._-]+/gu, '_');
  link.href = URL.createObjectURL(new Blob([text], {type}));
  link.download = `${stem}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  say(`Exported ${Object.keys(state.judged).length} rows as ${link.download}.`);
}
function readCsv(text) {
  const cells = [[]]; let cell = '', quoted = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (quoted) { if (c !== '"') cell += c; else if (text[i + 1] === '"') { cell += c; i++; } else quoted = false; }
    else if (c === '"') quoted = true;
    else if (c === ',' || c === '\n') { cells.at(-1).push(cell); cell = ''; if (c === '\n') cells.push([]); }
    else if (c !== '\r') cell += c;
  }
  if (cell || cells.at(-1).length) cells.at(-1).push(cell);
  const [heads, ...lines] = cells.filter(line => line.length);
  return lines.map(line => Object.fromEntries(heads.map((head, i) => [head, bare(line[i] ?? '')])));
}
function fits(review) {
  const row = rows[places.get(review.id)];
  if (!row || review.hash && review.hash !== row.hash) return false;
  const whole = ['confirmed', 'changed'].includes(review.state);
  return whole ? names.includes(review.label_human) : ['rejected', 'skipped'].includes(review.state);
}
function take(text) {
  let found;
  text = text.replace(/^\ufeff/, '');
  try { found = text.trimStart().startsWith('{') ? JSON.parse(text) : {reviews: readCsv(text)}; } catch { found = {}; }
  if (!Array.isArray(found.reviews) || !found.reviews.length || !found.reviews.every(review => review && typeof review.id === 'string')) return say('This file is no export of such a page: nothing was taken.');
  const good = found.reviews.filter(fits), left = found.reviews.length - good.length;
  if (!good.length) return say('None of the rows in this file is on this page: nothing was taken.');
  change(Object.fromEntries(good.map(review => {
    const label = ['confirmed', 'changed'].includes(review.state) ? review.label_human : null, asked = rows[places.get(review.id)].label;
    return [review.id, {state: label === null ? review.state : label === asked ? 'confirmed' : 'changed', label_human: label, note: String(review.note || '').slice(0, 2000), date: String(review.date || ''), blind: review.blind === true || review.blind === 'true'}];
  })));
  const who = found.reviewer ?? good[0].reviewer;
  if (who && !state.reviewer) $('reviewer').value = state.reviewer = String(who).slice(0, 80);
  go(state.at, `Took ${good.length} rows${left ? `; ${left} of the file are not on this page, or have another text or label` : ''}.`);
}

// ---- keys and buttons
const inField = element => element && (['INPUT', 'TEXTAREA', 'SELECT'].includes(element.tagName) && element.type !== 'checkbox');
const plainKeys = {
  r: () => settle('rejected', null), s: () => settle('skipped', null), u: undo, n: () => $('note').focus(), t: () => view(!state.table),
  e: () => download(asJson(), 'json', 'application/json'), '/': () => { if (!$('finder').hidden) $('find').focus(); },
  ArrowLeft: () => go(state.at - 1), ArrowRight: () => go(state.at + 1),
};
document.addEventListener('keydown', event => {
  const {key, target} = event, button = target.closest && target.closest('button, a, summary, [type="checkbox"]');
  if (target === $('note') && (key === 'Escape' || key === 'Enter' && (event.ctrlKey || event.metaKey))) { event.preventDefault(); return focusRow(); }
  if (target === $('find') && key === 'Escape') { event.preventDefault(); return go(state.at); }
  if (target === $('find') && key === 'Enter') {
    event.preventDefault();
    const first = [...$('labels').children].findIndex(element => !element.hidden);
    return first < 0 ? say('No label fits.') : judge(names[first]);
  }
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || inField(target) || !state.single) return;
  const inTable = state.table && (target === document.body || target.closest('#rows'));
  let act = plainKeys[key.length === 1 ? key.toLowerCase() : key];
  if (/^[0-9]$/.test(key)) act = () => digit(key);
  if (key === 'Escape' && typed) act = () => go(state.at);
  if (key === 'Enter' && !hides() && (!button || button.matches('.row'))) act = () => judge(rows[state.at].label);
  if (inTable && (key === 'ArrowUp' || key === 'ArrowDown')) act = () => go(state.at + (key === 'ArrowUp' ? -1 : 1));
  const onCard = !state.table && isLong() && (target === document.body || target.closest('#card'));
  if (onCard && (key === 'ArrowUp' || key === 'ArrowDown')) act = () => scrollText(key === 'ArrowUp' ? -1 : 1);
  if (!act || event.repeat && !key.startsWith('Arrow')) return;
  event.preventDefault();
  act();
});
const on = (id, act) => $(id).addEventListener('click', act);
on('confirm', () => judge(rows[state.at].label)); on('reject', plainKeys.r); on('skip-row', plainKeys.s); on('undo', undo);
on('back', plainKeys.ArrowLeft); on('forward', plainKeys.ArrowRight); on('one', () => view(false)); on('all', () => view(true));
on('earlier', () => go(Math.floor(state.at/SIZE)*SIZE - SIZE)); on('later', () => go(Math.floor(state.at/SIZE)*SIZE + SIZE));
on('json', plainKeys.e); on('csv', () => download(asCsv(), 'csv', 'text/csv'));
on('reveal', () => { state.revealed = true; keep(); draw(); say('Agreement and asked labels are shown. New judgements do not count as blind.'); });
on('clear', () => {
  const there = Object.keys(state.judged), sure = $('clear').dataset.sure;
  if (!there.length) return say('There is nothing to remove.');
  $('clear').dataset.sure = sure ? '' : 'asked';
  $('clear').textContent = sure ? 'Remove all judgements' : `Press again to remove ${there.length}`;
  if (sure) { change(Object.fromEntries(there.map(id => [id, null]))); go(0, 'Removed. Undo brings them back.'); }
});
$('find').addEventListener('input', drawRow);
$('note').addEventListener('input', () => {
  const id = rows[state.at].id, entry = {...(state.judged[id] || {state: '', label_human: null}), note: $('note').value};
  if (entry.note || entry.state) state.judged[id] = entry; else delete state.judged[id];
  keep();
});
$('reviewer').addEventListener('input', () => { state.reviewer = $('reviewer').value.trim(); keep(); });
$('single').addEventListener('change', () => { state.single = $('single').checked; keep(); });
$('file').addEventListener('change', async () => { const [file] = $('file').files; if (file) take(await file.text()); $('file').value = ''; });
// Another tab with the same page.
window.addEventListener('storage', event => { if (event.key === KEY) { recall(); draw(); } });
window.addEventListener('beforeunload', event => { if (!keeps && Object.keys(state.judged).length) event.preventDefault(); });

recall();
drawLabels();
$('reviewer').value = state.reviewer;
$('single').checked = state.single;
draw();
if (Object.keys(state.judged).length) say(`Your ${Object.keys(state.judged).length} judgements from before are here.`);
