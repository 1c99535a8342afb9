// In the place of the studio's `wire.js`: requests go to a worker of this page, which makes the music here.

const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
const BROKEN = "The player stopped: this browser is too old or short of memory, or files of the page are missing.";
const failure = new Promise((fail) => (worker.onerror = fail));

/** `POST path`, as the studio answers it: a port at which the messages of the answer arrive. */
export function ask(path, body) {
  const { port1, port2 } = new MessageChannel();
  worker.postMessage({ path, body }, [port2]);
  return port1;
}

/** The messages of an answer, as they come. */
export function frames(port) {
  const start = (messages) => {
    port.onmessage = ({ data }) => messages.enqueue(data);
    failure.then(() => messages.enqueue([{ error: BROKEN }]));
  };
  const queue = new ReadableStream({ start });
  const reader = queue.getReader();
  return { next: () => reader.read() };
}

/** The one message of an answer. */
export async function answer(port) {
  const { value: [about] } = await frames(port).next();
  if (about.error) throw new Error(about.error);
  return about;
}

/** Load the models of site.json. say: receives {progress, share}. */
export const load = (about, say) => new Promise((done, fail) => {
  failure.then(() => fail(new Error(BROKEN)));
  ask("studio/models", about).onmessage = ({ data: [message], target }) => {
    if (message.progress) return say(message);
    target.close(); // after an error, the other files report no progress
    message.error ? fail(new Error(message.error)) : done();
  };
});

export const inWords = (error) => error.message;

/** Cuts a payload into its typed arrays. */
export const cutter = (parts) => () => parts.shift();

/** The address of a session. */
export const address = ({ link }) => new URL(`#${link}`, location.href).href;

export const send = null; // only a studio takes recordings
