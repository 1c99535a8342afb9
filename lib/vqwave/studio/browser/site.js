// The page of a site that `vqwave export-web` wrote: the studio's player, with the model in this browser.

import { alertIn, byId, button, element, showThemes } from "./dom.js";
import { Player } from "./player.js";
import { RingSound } from "./ringsound.js";
import { Sound, wake } from "./sound.js";
import { linked, load, prepare } from "./wire.js";

/** What the next piece is made of: a seed, a label, and what a link says. */
class Form {
  constructor(about) {
    Object.assign(this, { about, rate: about.rate });
    this.seed = element("input", { type: "text", id: "seed", inputmode: "numeric", placeholder: "chosen for you", autocomplete: "off" });
    const names = ["", ...about.labels];
    this.label = element("select", { id: "label" }, ...names.map((name) => element("option", { value: name }, name || "any of them")));
    byId("form").append(
      element("label", { class: "row" }, "Seed ", this.seed),
      element("p", { class: "faint" }, "The same seed and changes make the same music on this device."),
      ...(about.labels.length ? [element("label", { class: "row" }, "Music like ", this.label)] : []),
      button("Make this", () => window.vqwave.player.make(), { id: "make", class: "main" }),
    );
    byId("form").addEventListener("submit", (event) => {
      event.preventDefault();
      byId("make").click();
    });
  }

  /** Fill the form from the address of the page. */
  follow() {
    const { seed = "", label = "", changes = "", temperature = "{}" } = linked();
    Object.assign(this, { changes, temperature: JSON.parse(temperature) });
    this.seed.value = seed;
    this.label.value = label;
    if (seed) byId("hint").textContent = "This link holds a piece: press Play to hear it.";
  }

  async whole(more = {}) {
    const seed = this.seed.value.trim();
    const own = seed === linked().seed ? { changes: this.changes, temperature: this.temperature } : {};
    await this.loaded;
    return { seconds: "endless", seed, label: this.label.value, ...own, ...more };
  }
}

showThemes();
window.vqwave = {};
for (const kind of ["click", "change"]) byId("music").addEventListener(kind, () => alertIn(byId("alert"), ""), { capture: true });
navigator.serviceWorker?.register("sw.js").catch(() => {});
try {
  const about = await (await fetch("site.json")).json();
  byId("music").querySelector(".tagline").textContent = about.tagline;
  wake(about.rate);
  const form = new Form(about);
  const player = new Player(form, { add() {}, expect() {} }, globalThis.AudioWorkletNode ? RingSound : Sound);
  Object.assign(window.vqwave, { about, form, player });
  document.addEventListener("theme", () => player.repaint());
  form.follow();
  addEventListener("hashchange", () => form.follow());
  form.loaded = load(({ progress, share }) => player.say(`${progress} …`, share));
  await form.loaded;
  prepare(await form.whole());
  if (player.state === "empty") player.say("Ready. Press Play.");
  window.vqwave.ready = true;
} catch (error) {
  alertIn(byId("alert"), error.message);
}
