// In the place of the studio's `wire.js`: requests go to a worker of this page, which makes the music here.

// From a blob, so that the content security policy of the page holds in the worker too.
// The blob calls `import()`, because Firefox 153 does not ask the service worker for the files of an import statement in a blob.
const script = `import("${new URL("worker.js", import.meta.url)}").then(() => postMessage(true), () => postMessage(false));`;
const worker = new Worker(URL.createObjectURL(new Blob([script], { type: "text/javascript" })), { type: "module" });
const started = new Promise((answer) => (worker.onmessage = answer)); // data: whether worker.js could be loaded
const BROKEN = "The player stopped: this browser is too old or short of memory, or files of the page are missing.";
const failure = new Promise((fail) => {
  worker.onerror = fail;
  started.then(({ data }) => data || fail());
});

/** `POST path`, as the studio answers it: a port at which the messages of the answer arrive. */
export function ask(path, body) {
  const { port1, port2 } = new MessageChannel();
  started.then(() => worker.postMessage({ path, body }, [port2]));
  return port1;
}

export function frames(port) {
  const reader = new ReadableStream({ start(messages) {
    port.onmessage = ({ data }) => messages.enqueue(data);
    failure.then(() => messages.enqueue([{ error: BROKEN }]));
  } }).getReader();
  return { next: () => reader.read() };
}

/** The one message of an answer. say: receives {progress, share} before it; after an error, nothing more. */
export async function answer(port, say) {
  const messages = frames(port);
  for (;;) {
    const { value: [about] } = await messages.next();
    if (about.error) throw new Error(about.error);
    if (!about.progress) return about;
    say(about);
  }
}

export const inWords = (error) => error.message;

export const cutter = (parts) => () => parts.shift();

export const address = ({ link }) => new URL(`#${link}`, location.href).href;

export const send = null; // only a studio takes recordings
