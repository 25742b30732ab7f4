// Questions to the server: JSON in and out, work that takes longer is asked for again, the latest question wins.
// @ts-check

/** An answer that is an error; its message is meant for people. */
export class Refused extends Error {
  /** @param {string} message @param {string} code @param {number} status */
  constructor(message, code, status) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

const pause = (/** @type {number} */ ms, /** @type {AbortSignal | undefined} */ signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });

/**
 * @param {string} path
 * @param {object} [options]
 * @param {any} [options.body]  sent as JSON; a Blob as it is
 * @param {AbortSignal} [options.signal]
 * @param {(what: string) => void} [options.working]  called while the server works on it
 * @param {boolean} [options.binary]
 * @returns {Promise<any>}
 */
export async function ask(path, { body, signal, working, binary } = {}) {
  for (let wait = 250; ; wait = Math.min(wait * 1.4, 2000)) {
    const blob = body instanceof Blob;
    /** @type {RequestInit} */
    const request = { signal, headers: { accept: 'application/json' } };
    if (body !== undefined) {
      request.method = 'POST';
      request.headers = { 'content-type': blob ? body.type : 'application/json' };
      request.body = blob ? body : JSON.stringify(body);
    }
    const answer = await fetch(path, request).catch((error) => {
      if (error.name === 'AbortError') throw error;
      throw new Refused('The studio does not answer. Is `isomix serve` still running?', 'gone', 0);
    });
    if (answer.status === 202 || answer.status === 503) {
      const said = await answer.json().catch(() => null);
      working?.(said?.error?.message ?? 'working');
      await pause(wait, signal);
      continue;
    }
    if (answer.ok) return binary ? answer.arrayBuffer() : answer.json();
    const said = await answer.json().catch(() => null);
    throw new Refused(said?.error?.message ?? `The server answered ${answer.status}.`, said?.error?.code ?? 'http', answer.status);
  }
}

/**
 * One question at a time: while one is under way, only the latest of those that came since is kept, and asked next.
 * @template Q, A
 * @param {(question: Q, signal: AbortSignal) => Promise<A>} send
 * @param {(answer: A, question: Q) => void} done
 * @param {(error: Error, question: Q) => void} failed
 */
export function latest(send, done, failed) {
  /** @type {AbortController | null} */
  let under = null;
  /** @type {{question: Q} | null} */
  let next = null;
  async function run(/** @type {Q} */ question) {
    const mine = (under = new AbortController());
    try {
      const answer = await send(question, mine.signal);
      if (!mine.signal.aborted) done(answer, question);
    } catch (error) {
      if (!mine.signal.aborted) failed(/** @type {Error} */ (error), question);
    } finally {
      if (under === mine) under = null;
      if (next && !under) {
        const { question: following } = next;
        next = null;
        run(following);
      }
    }
  }
  return {
    /** Ask after the one under way. @param {Q} question */
    queue(question) {
      if (under) next = { question };
      else run(question);
    },
    /** Ask now, and drop the one under way. @param {Q} question */
    now(question) {
      under?.abort();
      under = null;
      next = null;
      run(question);
    },
    drop() {
      under?.abort();
      under = null;
      next = null;
    },
  };
}
