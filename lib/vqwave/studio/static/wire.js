// Requests to the studio, and its messages: two little-endian uint32 lengths, JSON and a payload (messages.py).

export async function* frames(response) {
  if (!response.ok) throw new Error(await response.text());
  const reader = response.body.getReader();
  let data = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    data = data.length ? new Uint8Array(await new Blob([data, value]).arrayBuffer()) : value;
    while (data.length >= 8) {
      const view = new DataView(data.buffer, data.byteOffset);
      const text = view.getUint32(0, true);
      const whole = 8 + text + view.getUint32(4, true);
      if (data.length < whole) break;
      const about = JSON.parse(new TextDecoder().decode(data.subarray(8, 8 + text)));
      const payload = data.slice(8 + text, whole).buffer;
      data = data.slice(whole);
      yield [about, payload];
    }
  }
}

export function ask(path, body, signal) {
  return fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });
}

/** The JSON of an answer; throws the error message of a refusal. */
export async function answer(request) {
  const response = await request;
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

/** Send a recording; the studio's description of it. */
export const send = (body, name) => answer(fetch(`studio/recordings?name=${encodeURIComponent(name)}`, { method: "POST", body }));

export const inWords = (error) => (error instanceof TypeError ? "The studio cannot be reached: is it still running?" : error.message);

/** Cuts a payload into typed arrays, one after the other. */
export function cutter(payload) {
  let at = 0;
  return (kind, count) => {
    const bytes = count * kind.BYTES_PER_ELEMENT;
    const part = new kind(payload.slice(at, at + bytes));
    at += bytes;
    return part;
  };
}

export const address = (record) => new URL(`?${record.link}`, location.origin + location.pathname).href;
