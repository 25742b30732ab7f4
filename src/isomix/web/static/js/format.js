// Numbers and places as people read them.
// @ts-check

const whole = new Intl.NumberFormat('en');

/** @param {number} value */
export const count = (value) => whole.format(value);

/** @param {number} n @param {string} one @param {string} [many] */
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** Which share of the pictures is at least as near. @param {number} rank @param {number} ranked */
export function percentile(rank, ranked) {
  const share = (100 * rank) / Math.max(ranked, 1);
  return `top ${share < 0.1 ? share.toPrecision(1) : share < 10 ? share.toFixed(1) : share.toFixed(0)} %`;
}

/**
 * How far a hit moved from its place in the plain space.
 * @param {number} rank @param {number | null} was @param {number} shown  places that the plain side shows
 * @returns {{kind: 'up' | 'down' | 'new' | 'still', text: string, words: string}}
 */
export function moved(rank, was, shown) {
  if (was === null) return { kind: 'new', text: 'new', words: 'new here' };
  if (was > shown) return { kind: 'new', text: `new (was ${count(was)})`, words: `new here, was ${count(was)}` };
  if (was > rank) return { kind: 'up', text: `↑ ${was - rank}`, words: `up ${was - rank} places, was ${was}` };
  if (was < rank) return { kind: 'down', text: `↓ ${rank - was}`, words: `down ${rank - was} places, was ${was}` };
  return { kind: 'still', text: '=', words: 'same place' };
}

/** What a band cuts. @param {[number, number]} band @param {number} directions */
export const cuts = ([top, bottom], directions) =>
  top || bottom
    ? `cuts the ${count(top)} largest and ${count(bottom)} smallest of ${count(directions)} directions`
    : `keeps all ${count(directions)} directions`;

/** The shape of the evidence from votes. @param {{plain: number, adapted: number, same: number, p: number | null, enough: number}} votes */
export function evidence(votes) {
  const decided = votes.plain + votes.adapted;
  const tally = `${votes.adapted} for the adapted side, ${votes.plain} for plain, ${votes.same} ${votes.same === 1 ? 'tie' : 'ties'}.`;
  if (votes.p === null) return `${tally} ${votes.enough} decided votes make a test; ${Math.max(0, votes.enough - decided)} to go.`;
  const p = votes.p < 0.001 ? 'p < 0.001' : `p = ${votes.p.toFixed(3)}`;
  const side = votes.adapted > votes.plain ? 'the adapted side is better for you' : 'the plain side is better for you';
  return `${tally} Sign test: ${p}; ${votes.p < 0.05 ? side : 'no difference that a coin would not make'}.`;
}

/** Places of a class on the keyboard: 1 to 9. @param {string} key @param {number} classes */
export function classOfKey(key, classes) {
  const place = /^[1-9]$/.test(key) ? Number(key) : 0;
  return place && place <= classes ? place - 1 : -1;
}
