// In the place of the studio's `wire.js`: requests go to a worker of this page, which makes the music here.

const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
const calls = new Map();
const takes = new Map(); // of the takes that are made, {queue, wake, ...}
let about = null;
let told = () => {};

worker.addEventListener("message", ({ data }) => {
  if (data.call) {
    const [done, fail] = calls.get(data.call);
    calls.delete(data.call);
    if (data.error) fail(new Error(data.error));
    else done(data.answer);
  } else if (data.take) {
    const take = takes.get(data.take);
    take?.queue.push(data.error ? [{ error: data.error }] : [data.about, data.payload]);
    take?.wake?.();
  } else told(data);
});
worker.addEventListener("error", (event) => {
  event.preventDefault();
  for (const [, fail] of calls.values()) fail(new Error("This browser cannot start the player; a newer one can."));
});

function call(job, ...values) {
  return new Promise((done, fail) => {
    const number = `${job} ${calls.size} ${Math.random()}`;
    calls.set(number, [done, fail]);
    worker.postMessage({ job, call: number, values });
  });
}

/** Load the models: the description of the site. report: called with {progress, share}. */
export async function load(report) {
  told = report;
  about = await call("open");
  return about;
}

let next = null; // the seed of a piece that is prepared before it is asked for

/** Compose the opening of the piece that these settings begin, before it is asked for. */
export function prepare(settings) {
  const { changes, ...piece } = complete(settings);
  next = piece.seed;
  if (!changes.length || changes[0][0]) call("prepare", piece);
}

const draw = () => crypto.getRandomValues(new Uint32Array(1))[0];

/** The settings of a link or a form, complete. */
function complete({ seed, changes = [], label = "", temperature = {} }) {
  const text = String(seed ?? "").trim() || next || String(draw());
  if (!/^\d{1,38}$/.test(text)) throw new Error(`The seed is ${text}; it must be a whole number of at most 38 digits.`);
  const list = typeof changes === "string" ? JSON.parse(changes || "[]") : changes;
  if (!Array.isArray(list) || list.some((change) => !Array.isArray(change) || !(change[0] >= 0) || typeof change[1] !== "object")) throw new Error("The changes of this link are damaged.");
  return { seed: text, changes: list.toSorted ? list.toSorted((a, b) => a[0] - b[0]) : [...list].sort((a, b) => a[0] - b[0]), label, temperature };
}

/** `Take._keywords`: what the page's sliders mean to a stream. */
function keywords(take, { wild, levels, jump, ...change }) {
  const wilder = wild !== undefined && about.levels.map(({ level, sampling }) => [level, {
    temperature: Number(((take.temperature[level] ?? sampling.temperature) * about.wildest ** wild).toFixed(4)), top_p: Number(Math.min(1, 1 + wild / 5).toFixed(4)) }]);
  return { ...change, ...(wilder || levels ? { sampling: levels ?? Object.fromEntries(wilder) } : {}), ...(jump ? { jump: draw() } : {}) };
}

async function steer(take, { until, ...change }) {
  if (until !== undefined) call("allow", take.id, until);
  if (!Object.keys(change).length) return {};
  const made = keywords(take, change);
  const sample = await call("set", take.id, made);
  take.changes.push([sample, made]);
  return { sample, seed: made.jump };
}

/** The record of a take that was heard up to a sample; it links to the piece and its changes. */
function finish(take, heard) {
  takes.delete(take.id);
  call("end");
  const changes = take.changes.filter(([sample]) => sample < heard).sort((a, b) => a[0] - b[0]);
  const samples = Math.min(take.made, Math.ceil(heard / about.column) * about.column);
  return { id: take.id, title: take.title, seed: take.seed, seconds: samples / about.rate, link: linkOf({ ...take, changes }) };
}

const linkOf = ({ seed, changes, label, temperature }) => new URLSearchParams({
  seed, ...(label ? { label } : {}), ...(Object.keys(temperature).length ? { temperature: JSON.stringify(temperature) } : {}), ...(changes.length ? { changes: JSON.stringify(changes) } : {}),
});

async function* perform(settings, signal) {
  const made = complete(settings);
  next = null;
  const take = { ...made, id: `take-${Math.random()}`, title: about.title, queue: [], made: 0 };
  const planned = [...take.changes];
  takes.set(take.id, take);
  signal?.addEventListener("abort", () => takes.delete(take.id) && call("end"));
  call("begin", take.id, { ...take, changes: planned, queue: undefined, until: settings.until ?? 0 });
  const { rate, column, block, picture, score, levels, labels } = about;
  yield [{ take: { id: take.id, title: take.title, seed: take.seed, level: levels.at(-1).level, rate, column, block, bands: picture.bands, lowest: picture.lowest, samples: null, prompt: 0,
    local: true, labels, label: take.label, score: Boolean(score), chain: levels.map(({ level }) => level),
    levels: levels.map(({ level, num_codes, books, shades }) => ({ level, num_codes, books, shades, generated: true, most_bits: books * Math.log2(num_codes) })) } }];
  while (takes.has(take.id)) {
    while (take.queue.length) {
      const [message, parts] = take.queue.shift();
      take.made += message.samples ?? 0;
      yield [message, parts];
    }
    await new Promise((wake) => (take.wake = wake));
  }
}

/** `POST path`, as the studio answers it. */
export async function ask(path, body, signal) {
  const [, , id, act] = path.split("/");
  if (path === "studio/settings") return { settings: complete(body) };
  if (path === "studio/takes") return perform(body, signal);
  const take = takes.get(id);
  if (!take) throw new Error("The piece has ended: there is nothing to change.");
  return act === "set" ? steer(take, body) : finish(take, body.sample);
}

export const answer = (request) => request;
export const frames = (response) => response;
export const inWords = (error) => error.message;

/** Cuts a payload into its typed arrays. */
export const cutter = (parts) => (kind) => parts.shift();

/** The address of a performance, and its settings in the address of this page. */
export const address = ({ id, link }) => new URL(`#${link ?? linkOf(takes.get(id))}`, location.href.split("#")[0]).href;
export const linked = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
