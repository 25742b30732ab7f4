// The parts of the pages that need no browser: addresses, ranges, words for numbers, and who wins among questions.
import assert from 'node:assert/strict';
import { test } from 'node:test';

const folder = new URL('../../src/isomix/web/static/js/', import.meta.url);
const { fromRanges, readAddress, toRanges, tooLong, writeAddress } = await import(new URL('state.js', folder));
const { classOfKey, cuts, evidence, moved, percentile, plural } = await import(new URL('format.js', folder));
const { ask, latest, Refused } = await import(new URL('api.js', folder));

test('ranges go there and back', () => {
  for (const rows of [[], [0], [3, 4, 5], [9, 1, 2, 7, 8], [0, 2, 4]]) {
    assert.deepEqual(fromRanges(toRanges(rows)), [...rows].sort((a, b) => a - b));
  }
  assert.equal(toRanges([5, 3, 4, 9]), '3-5,9');
  assert.deepEqual(fromRanges('x,-1,3-1,2,<script>,1e3,4-5'), [2, 4, 5]);
  assert.equal(fromRanges('0-999999999').length, 100000);
});

test('an address shows the same view again', () => {
  const view = { page: 'spectrum', q: 'row:12', space: 'text-pca', band: [16, 50], sel: [1, 2, 3, 9], kept: '', pins: [4, 5], k: 48, t: 0.95 };
  const written = writeAddress(view);
  const [path, query] = written.split('?');
  assert.deepEqual(readAddress(path, `?${query}`), view);
  assert.equal(writeAddress(readAddress('/', '')), '/');
});

test('an address of a stranger is harmless', () => {
  const view = readAddress('/nowhere/../x', '?band=1e9-x&k=-4&t=NaN&kept=../../x&sel=%00&pins=1-99&q=<b>');
  assert.equal(view.page, 'search');
  assert.equal(view.band, null);
  assert.equal(view.k, 24);
  assert.equal(view.t, 0.97);
  assert.equal(view.kept, '');
  assert.deepEqual(view.sel, []);
  assert.equal(view.pins.length, 9);
});

test('a selection too long for an address stays out of it', () => {
  const sel = Array.from({ length: 2000 }, (_, i) => 2 * i);
  assert.ok(tooLong(sel));
  const view = { ...readAddress('/', ''), sel };
  assert.equal(writeAddress(view), '/');
  assert.equal(writeAddress({ ...view, kept: '0123456789abcdef' }), '/?kept=0123456789abcdef');
});

test('how far a hit moved is said in text too', () => {
  assert.deepEqual(moved(3, 40, 24), { kind: 'new', text: 'new (was 40)', words: 'new here, was 40' });
  assert.deepEqual(moved(3, null, 24), { kind: 'new', text: 'new', words: 'new here' });
  assert.equal(moved(3, 10, 24).text, '↑ 7');
  assert.equal(moved(8, 4, 24).text, '↓ 4');
  assert.equal(moved(5, 5, 24).kind, 'still');
  assert.equal(percentile(1, 1000), 'top 0.1 %');
  assert.equal(percentile(2, 100001), 'top 0.002 %');
  assert.equal(percentile(500, 1000), 'top 50 %');
});

test('bands and votes in words', () => {
  assert.equal(cuts([150, 50], 512), 'cuts the 150 largest and 50 smallest of 512 directions');
  assert.equal(cuts([0, 0], 512), 'keeps all 512 directions');
  assert.match(evidence({ plain: 1, adapted: 5, same: 1, p: null, enough: 20 }), /14 to go/);
  assert.match(evidence({ plain: 3, adapted: 17, same: 0, p: 0.0026, enough: 20 }), /better for you/);
  assert.match(evidence({ plain: 10, adapted: 11, same: 0, p: 1, enough: 20 }), /coin/);
  assert.equal(plural(1, 'picture'), '1 picture');
  assert.equal(plural(1972, 'picture'), '1,972 pictures');
  assert.equal(classOfKey('1', 2), 0);
  assert.equal(classOfKey('3', 2), -1);
  assert.equal(classOfKey('0', 9), -1);
  assert.equal(classOfKey('a', 9), -1);
});

const later = (value, ms = 5) => new Promise((resolve) => setTimeout(() => resolve(value), ms));

// As long as it takes on a busy machine; then a little longer, for an answer that should not come.
async function answersIn(list, count) {
  for (let tries = 0; list.length < count && tries < 2000; tries++) await later(0);
  await later(0, 20);
}

test('one question at a time, and the latest of those that wait', async () => {
  const sent = [], answered = [];
  const asked = latest((q) => (sent.push(q), later(q * 10)), (a) => answered.push(a), assert.fail);
  for (let i = 1; i <= 6; i++) asked.queue(i);
  await answersIn(answered, 2);
  assert.deepEqual(sent, [1, 6]);
  assert.deepEqual(answered, [10, 60]);
});

test('a question asked now drops the one under way', async () => {
  const answered = [], signals = [];
  const asked = latest((q, signal) => (signals.push(signal), later(q)), (a) => answered.push(a), assert.fail);
  asked.queue(1);
  asked.now(2);
  await answersIn(answered, 1);
  assert.deepEqual(answered, [2]);
  assert.equal(signals[0].aborted, true);
});

test('work is asked for again until it is done, and errors speak', async (t) => {
  const answers = [
    new Response('{"error": {"code": "working", "message": "counting"}}', { status: 202 }),
    new Response('{"error": {"code": "busy", "message": "busy"}}', { status: 503 }),
    new Response('{"value": 7}'),
    new Response('{"error": {"code": "input", "message": "row: expected a number"}}', { status: 422 }),
    new Response('<html>', { status: 500 }),
  ];
  t.mock.method(globalThis, 'fetch', async () => answers.shift());
  const said = [];
  assert.deepEqual(await ask('/x', { working: (what) => said.push(what) }), { value: 7 });
  assert.deepEqual(said, ['counting', 'busy']);
  await assert.rejects(ask('/x'), (e) => e instanceof Refused && e.message === 'row: expected a number' && e.status === 422);
  await assert.rejects(ask('/x'), /answered 500/);
  t.mock.method(globalThis, 'fetch', async () => { throw new TypeError('failed'); });
  await assert.rejects(ask('/x'), /isomix serve/);
});
