// Helpers for every part of the page.

export const byId = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

export const button = (label, act, more = {}) => element("button", { type: "button", onclick: act, ...more }, label);

/** Choose a value of a select; a value that is not offered, such as a mixture of labels, becomes an option. */
export function pick(select, value) {
  if (![...select.options].some((option) => option.value === value)) select.append(element("option", { value }, value));
  select.value = value;
}

export function time(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const minutes = Math.floor(whole / 60);
  const rest = String(whole % 60).padStart(2, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

export const inField = (event) => Boolean(event.target.closest?.("input, textarea, select, button, a, [role=slider], [role=tab], summary"));

export async function copy(text, button) {
  const was = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    // Browsers give the clipboard only to local or encrypted pages.
    window.prompt("Copy this:", text);
  }
  setTimeout(() => (button.textContent = was), 1500);
}

/** Tell the system what plays, for its media keys and lock screen. */
export function announce(title, artist, handlers = {}) {
  if (!navigator.mediaSession) return;
  navigator.mediaSession.metadata = new MediaMetadata({ title, artist });
  for (const [action, handle] of Object.entries(handlers)) navigator.mediaSession.setActionHandler(action, handle);
}

export function alertIn(box, words) {
  box.textContent = words;
  box.hidden = !words;
  if (words) box.scrollIntoView({ block: "nearest" });
}

/** Write how far something is. share: of a progress bar; null: unknown; undefined: no bar. */
export function report(status, bar, words, share) {
  if (byId(status).textContent !== words) byId(status).textContent = words;
  byId(bar).hidden = share === undefined;
  if (share == null) byId(bar).removeAttribute("value");
  else byId(bar).value = share;
}

export function saveAs(name, blob) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

export async function readJson(path) {
  const response = await fetch(path);
  return response.json().catch(() => { throw new Error(`The file ${path} is missing or cut off, so nothing can play: put the whole folder on the host again.`); });
}

export function recall(key, otherwise) {
  try { return JSON.parse(localStorage.getItem(key)) ?? otherwise; } catch { return otherwise; }
}

export function keep(key, value) {
  try { localStorage.setItem(key, JSON.stringify(value)); } catch {} // the page also works without local storage
}

export const SLIDE = 50; // milliseconds between two values of a slider that is dragged

const timers = {};

/** Call `act` now, or once `delay` milliseconds have passed since the last call with the same key. */
export function seldom(key, delay, act) {
  if (timers[key] !== undefined) return (timers[key] = act);
  act();
  timers[key] = null;
  setTimeout(() => {
    const next = timers[key];
    delete timers[key];
    if (next) seldom(key, delay, next);
  }, delay);
}

export function film(draw) {
  draw();
  setTimeout(() => requestAnimationFrame(() => film(draw)), 30);
}
