// The worker: loads the models, makes the music and answers the page (`wire.js`).

import * as ort from "./ort.js";
import { Spectrum } from "./spectrum.js";
import { Stream } from "./stream.js";

globalThis.ort = ort;
const at = (path) => new URL(`../../${path}`, import.meta.url).href;
let about = null;
let take = null;
let prepared = null;

/** The bytes of a packed file of the site: from the cache, else from the host, and then kept for a time without a network. */
async function read(path, report) {
  const { bytes } = about.files[path];
  const kept = await globalThis.caches?.match(at(path));
  const response = kept ?? (await fetch(at(path)).catch(() => null));
  if (!response?.ok) throw new Error(`The file ${path} is missing, so nothing can play: put the whole folder on the host again.`);
  if (!kept) {
    const copy = response.clone();
    globalThis.caches?.open(about.cache).then((cache) => cache.put(at(path), copy)).catch(() => {});
  }
  const parts = [];
  for (const reader = response.body.getReader(); ; ) {
    const { value, done } = await reader.read();
    if (done) break;
    parts.push(value);
    report(value.length);
  }
  const packed = new Blob(parts);
  if (packed.size !== bytes) throw new Error(`The file ${path} is cut off or of another version: put the whole folder on the host again.`);
  return new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function open() {
  about = await (await fetch(at("site.json"))).json();
  const paths = Object.keys(about.files);
  const total = paths.reduce((sum, path) => sum + about.files[path].bytes, 0);
  let loaded = 0;
  const report = (bytes) => {
    loaded += bytes;
    postMessage({ progress: `Loading the model, ${(total / 1e6).toFixed(0)} MB, once`, share: loaded / total });
  };
  const files = Object.fromEntries(await Promise.all(paths.map(async (path) => [path, await read(path, report)])));
  postMessage({ progress: "Opening the model", share: null });
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  ort.env.wasm.wasmBinary = files[about.wasm];
  const session = async (path) => {
    const opened = await ort.InferenceSession.create(new Uint8Array(files[path]), { executionProviders: ["wasm"], logSeverityLevel: 3 });
    return { run: (feeds) => opened.run(feeds), inputs: opened.inputNames };
  };
  about.codec.graph = await session(about.codec.path);
  for (const model of [...about.levels, ...(about.score ? [about.score.model] : [])]) {
    model.graphs = { loop: await session(model.loop), context: model.context && (await session(model.context)) };
    for (const table of ["quiet", "pitches"]) if (model[table]) model[table] = new Float32Array(files[model[table]]);
  }
  return about;
}

/** A stream and its first block, which takes the longest: it begins where the music sounds. */
function prepare({ seed, temperature, label }) {
  const key = JSON.stringify([seed, temperature, label]);
  if (prepared?.key === key) return prepared;
  const stream = new Stream(about, BigInt(seed), { temperature, label });
  return { key, stream, first: null };
}

/** One piece: makes blocks while it is allowed to. */
class Take {
  constructor(id, { until, changes, ...settings }) {
    Object.assign(this, prepare(settings), { id, until, samples: 0, planned: changes, paced: 0, computing: 0 });
    prepared = null;
    this.spectrum = new Spectrum(about);
  }

  async make() {
    const { stream } = this;
    while (take === this) {
      // A pause between blocks lets messages in.
      await new Promise((resume) => (this.samples < this.until ? setTimeout(resume) : (this.wake = resume)));
      if (take !== this) return;
      while (this.planned.length && this.planned[0][0] <= this.samples) stream.set(this.planned.shift()[1]);
      const began = performance.now();
      const block = await (this.first ?? stream.next());
      this.first = null;
      if (this.samples) [this.paced, this.computing] = [this.paced + block.audio.length, this.computing + performance.now() - began];
      this.send(block);
    }
  }

  send({ audio, codes, bits, notes }) {
    const pcm = Int16Array.from(audio, (x) => Math.max(-32768, Math.min(32767, Math.round(x * 32768))));
    const columns = this.spectrum.push(audio);
    const parts = about.levels.map(({ level }) => Uint16Array.from(codes[level]));
    const begin = this.samples;
    this.samples += pcm.length;
    const second = (samples) => samples / about.rate;
    postMessage({
      take: this.id,
      about: {
        samples: pcm.length, columns: columns.length / about.picture.bands, codes: parts.map((part) => part.length), bits,
        notes: notes.map(([first, length, midi]) => [second(begin + first), second(length), midi, about.picture.note]), speed: this.computing ? second(this.paced) / (this.computing / 1000) : undefined,
      },
      payload: [pcm, columns, ...parts],
    });
  }
}

const jobs = {
  open,
  prepare: (settings) => {
    prepared = prepare(settings);
    prepared.first = prepared.stream.next();
    prepared.first.catch(() => {}); // the take reports the error
  },
  begin: (id, settings) => {
    take?.wake?.();
    take = new Take(id, settings);
    const mine = take;
    mine.make().catch((error) => postMessage({ take: id, error: error.message }));
  },
  allow: (id, until) => {
    if (take?.id !== id) return;
    take.until = until;
    take.wake?.();
  },
  set: (id, change) => {
    if (take?.id !== id) throw new Error("The piece has ended: there is nothing to change.");
    return take.stream.set(change);
  },
  end: () => {
    take?.wake?.();
    take = null;
  },
};

addEventListener("message", async ({ data: { job, call, values } }) => {
  try {
    const answer = await jobs[job](...values);
    postMessage({ call, answer: job === "open" ? JSON.parse(JSON.stringify(answer, (key, value) => (key === "graphs" || key === "graph" || ArrayBuffer.isView(value) ? undefined : value))) : answer });
  } catch (error) {
    postMessage({ call, error: error.message });
  }
});
