// The worker: loads the models, makes the music, and answers the requests of the page as the studio does.

import { clip } from "./level.js";
import { InferenceSession, Tensor, env } from "./ort.js";
import { SEED, Stream, sampling } from "./stream.js";

const SITE = new URL("../../", import.meta.url).href;
let site = null; // site.json, with open graphs and tables in the place of their files
let take = null; // what plays
let prepared = null; // the take of the settings that were asked about last: it plays next

/** The bytes of a packed file of the site: from the cache, else from the host, and then kept for a time without a network. */
async function read(path, report) {
  const cache = await globalThis.caches?.open(`vqwave ${SITE}`).catch(() => null);
  const kept = await cache?.match(SITE + path);
  try {
    const response = kept ?? (await fetch(SITE + path, { cache: "no-cache" }));
    if (!response.ok) throw new Error(response.statusText);
    const copy = kept ? null : response.clone();
    const count = new TransformStream({ transform: (part, queue) => (report(part.length), queue.enqueue(part)) });
    const bytes = await new Response(response.body.pipeThrough(count).pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
    if (copy) cache?.put(SITE + path, copy).catch(() => {}); // only now: a file that is cut off is fetched again
    return bytes;
  } catch { throw new Error(`The file ${path} is missing or cut off, so nothing can play: put the whole folder on the host again.`); }
}

async function load({ files: sizes, wasm, ...about }, say) {
  const total = Object.values(sizes).reduce((a, b) => a + b);
  let loaded = 0;
  const report = (bytes) => say({ progress: `Loading the model, ${(total / 1e6).toFixed(0)} MB, once`, share: (loaded += bytes) / total });
  const files = Object.fromEntries(await Promise.all(Object.keys(sizes).map(async (path) => [path, await read(path, report)])));
  say({ progress: "Opening the model", share: null });
  env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  env.wasm.wasmBinary = files[wasm];
  const graph = (file) => InferenceSession.create(new Uint8Array(file), { executionProviders: ["wasm"], logSeverityLevel: 3 });
  const open = async (entry) => {
    for (const [key, value] of Object.entries(entry ?? {})) {
      if (typeof value === "object") await open(value);
      else if (files[value]) entry[key] = value.includes(".onnx.") ? await graph(files[value]) : new Float32Array(files[value]);
    }
    return entry;
  };
  site = await open(about);
  return { ready: true };
}

const draw = () => crypto.getRandomValues(new Uint32Array(1))[0];

function complete({ seed, label, changes }) {
  const text = seed || prepared?.settings.seed || String(draw());
  if (!SEED.test(text)) throw new Error(`The seed is ${text}; it must be a whole number of at most 38 digits.`);
  try {
    const list = JSON.parse(changes || "[]").map(([sample, change]) => [Number(sample), { ...change }]);
    return { seed: text, label, changes: list.sort((a, b) => a[0] - b[0]) };
  } catch { throw new Error("The changes of this link are damaged."); }
}

/** One piece. Its first block, which takes the longest, is composed at once. */
class Take {
  constructor(settings) {
    Object.assign(this, { settings, changes: [...settings.changes], planned: [...settings.changes], samples: 0, computing: 0, waiting: [] });
    this.stream = new Stream(site, BigInt(settings.seed), settings.label);
    for (const [, change] of this.planned) this.stream.check(change);
    this.unseen = new Float32Array(site.picture.window / 2); // the samples that the next column of the picture reads
    this.firstBlock = this.nextBlock();
  }

  async nextBlock() {
    while (this.planned[0]?.[0] <= this.samples) this.stream.set(this.planned.shift()[1]);
    for (const change of this.waiting.splice(0)) {
      const due = this.stream.onBar(change);
      if (due) this.changes.push([this.stream.set(due), due]);
      else this.waiting.push(change);
    }
    return this.stream.nextBlock();
  }

  async make(say) {
    const [name, [adjectives, nouns]] = [Number((167n * BigInt(this.settings.seed)) % 256n), site.words]; // `piece_name` in `studio/names.py`
    const title = `${adjectives[name % 16]} ${nouns[name >> 4]}`;
    say({ take: { ...site.take, ...this.settings, title, link: this.link(), ramp: Math.round(site.ramp * site.rate) } });
    for (;;) {
      const began = performance.now();
      const { audio, codes, bits, notes, form } = await (this.samples ? this.nextBlock() : this.firstBlock);
      if (this.samples) this.computing += (performance.now() - began) / 1000;
      const pcm = Int16Array.from(audio, (x) => clip(Math.round(x * 32768), -32768, 32767));
      const parts = site.levels.map(({ level }) => Uint16Array.from(codes[level]));
      const rows = notes.map(([first, length, midi]) => [(this.samples + first) / site.rate, length / site.rate, midi, site.picture.note]);
      const speed = this.samples ? this.samples / site.rate / this.computing : undefined; // without the first block
      const message = { samples: pcm.length, codes: parts.map(({ length }) => length), bits, notes: rows.filter((row, i) => notes[i][0] < pcm.length), score: rows, form: this.inSeconds(form), speed };
      say(message, [pcm, await this.columns(audio), ...parts]);
      this.samples += pcm.length;
      // A pause between blocks lets messages in.
      do await new Promise((resume) => ((this.allow = resume), setTimeout(resume, this.missing())));
      while (take === this && this.missing());
      if (take !== this) return;
    }
  }

  inSeconds(form) {
    const second = (sample) => (this.samples + sample) / site.rate;
    return form && { ...form, beats: form.beats.map(([sample, place]) => [second(sample), place]), section: { ...form.section, second: second(form.section.second) } };
  }

  /** Milliseconds until the next block may be made. While the take plays, more is allowed as time passes. */
  missing() {
    if (this.samples < this.until) return 0;
    if (!this.playing) return 1000;
    return Math.max(0, ((this.samples + 1 - this.until) / site.rate) * 1000 - (performance.now() - this.since));
  }

  async columns(audio) {
    const { graph, window, bands } = site.picture;
    const samples = (this.unseen = Float32Array.from([...this.unseen, ...audio]));
    if (samples.length < window) return new Uint8Array();
    const { columns: { data } } = await graph.run({ audio: new Tensor(samples, [1, samples.length, 1]) });
    this.unseen = samples.slice((data.length / bands) * site.column);
    return data;
  }

  /** What plays from the returned sample on. wild, levels, jump: as the page's controls say it. bar: with the next bar. */
  steer({ wild, levels, jump, bar, ...change }) {
    const rounded = (x) => Number(x.toFixed(4));
    const temper = (temperature) => ({ temperature: rounded(temperature * site.wildest ** wild) });
    if (wild !== undefined) change.sampling = Object.fromEntries(site.take.sampled.temperature.map((level) => [level, temper(sampling(site)[level].temperature)]));
    if (levels) change.sampling = levels;
    if (jump) change.jump = draw();
    if (bar && this.stream.score) {
      this.stream.check(change);
      this.waiting.push(change);
      return undefined;
    }
    const sample = this.stream.set(change);
    this.changes.push([sample, change]);
    return sample;
  }

  /** The part of an address that repeats the piece up to a sample. */
  link(stop = Infinity) {
    const changes = this.changes.filter(([sample]) => sample < stop).sort((a, b) => a[0] - b[0]);
    const { seed, label } = this.settings;
    return String(new URLSearchParams({ seed, ...(label && { label }), ...(changes.length && { changes: JSON.stringify(changes) }) }));
  }
}

const answers = {
  models: load,
  async settings(body) {
    const settings = complete(body);
    if (JSON.stringify(settings) !== JSON.stringify(prepared?.settings)) prepared = new Take(settings);
    await prepared.firstBlock; // so that Play sounds at once
    return { settings };
  },
  takes({ until }, say) {
    [take, prepared] = [Object.assign(prepared, { until, playing: false }), null];
    take.make(say).catch((error) => say({ error: error.message }));
  },
  set({ until, playing, ...change }) {
    if (!take) throw new Error("The piece has ended: there is nothing to change.");
    if (!until) return { sample: take.steer(change), link: take.link() };
    Object.assign(take, { until, playing, since: performance.now() });
    take.allow?.();
  },
  stop({ sample }) {
    const record = { seconds: sample / site.rate, link: take.link(sample) };
    take = null;
    return record;
  },
};

addEventListener("message", async ({ data: { path, body }, ports: [port] }) => {
  const say = (about, payload) => port.postMessage([about, payload]);
  try {
    const message = await answers[path.split("/").at(-1)](body, say);
    if (message) say(message);
  } catch (error) { say({ error: error.message }); }
});
