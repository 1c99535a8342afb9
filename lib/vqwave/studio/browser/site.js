// The page of a site that `vqwave export-web` wrote: the studio's player, with the model in this browser.

import { alertIn, byId, element } from "./dom.js";
import { Player } from "./player.js";
import { wake } from "./sound.js";
import { answer, ask, load } from "./wire.js";

const linked = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

/** What the next piece is made of: a seed, a label, and the changes that a link holds. */
class Form {
  constructor(about) {
    Object.assign(this, { about, rate: about.rate });
    byId("label").append(...about.labels.map((name) => element("option", { value: name }, name)));
    byId("label").parentElement.hidden = !about.labels.length;
    byId("form").addEventListener("submit", (event) => {
      event.preventDefault();
      window.vqwave.player.make();
    });
    addEventListener("hashchange", () => this.follow());
    this.follow();
  }

  /** Fill the form from the address of the page. */
  follow() {
    const { seed = "", label = "" } = linked();
    [byId("seed").value, byId("label").value] = [seed, label];
    if (seed) byId("hint").textContent = "This link holds a piece: press Play to hear it.";
  }

  /** The settings of the next piece, once the models are loaded. */
  async whole(more = {}) {
    await this.loaded;
    const [seed, link] = [byId("seed").value.trim(), linked()];
    return { seconds: "endless", seed, label: byId("label").value, changes: seed === link.seed ? link.changes : "", ...more };
  }
}

navigator.serviceWorker?.register("sw.js").catch(() => {});
try {
  const about = await (await fetch("site.json")).json();
  wake(about.rate);
  const form = new Form(about);
  const player = new Player(form, { add() {}, expect() {} });
  window.vqwave = { about, form, player };
  form.loaded = load(about, ({ progress, share }) => player.say(`${progress} …`, share));
  await answer(ask("studio/settings", await form.whole()));
  if (player.state === "empty") player.say("Ready. Press Play.");
  window.vqwave.ready = true;
} catch (error) {
  alertIn(byId("alert"), error.message);
}
