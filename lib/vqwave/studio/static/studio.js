// The page: its tabs, its theme, and the parts it is made of.

import { Codecs } from "./codecs.js";
import { alertIn, byId, keep, recall, setTheme, themes } from "./dom.js";
import { Form } from "./form.js";
import { Player } from "./player.js";
import { wake } from "./sound.js";
import { Takes } from "./takes.js";
import { answer, inWords } from "./wire.js";

const TABS = ["music", "codecs"];

function show(tab) {
  for (const name of TABS) {
    const chosen = name === tab;
    byId(name).hidden = !chosen;
    byId(`tab-${name}`).setAttribute("aria-selected", String(chosen));
    byId(`tab-${name}`).tabIndex = chosen ? 0 : -1;
  }
}

for (const name of TABS) {
  byId(`tab-${name}`).addEventListener("click", () => show(name));
  byId(`tab-${name}`).addEventListener("keydown", ({ key }) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (!step) return;
    const next = TABS[(TABS.indexOf(name) + step + TABS.length) % TABS.length];
    show(next);
    byId(`tab-${next}`).focus();
  });
}

/** While a training runs: a piece that is over begins anew when there are newer weights. */
function followTraining(about, player) {
  let known = about.newest;
  setInterval(async () => {
    if (!player.sound?.over || player.busy) return;
    try {
      const { newest } = await answer(fetch("studio/about"));
      if (newest === known) return;
      known = newest;
      player.make();
    } catch {
      // The studio is gone; the next thing that is asked of it says so.
    }
  }, 5000);
}

setTheme(recall("vqwave.theme", "dark"));
byId("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  keep("vqwave.theme", theme);
  setTheme(theme);
});

try {
  const about = await answer(fetch("studio/about"));
  wake(about.rate);
  const form = new Form(about, () => player.make(), () => takes.four());
  const takes = new Takes(form);
  const player = new Player(form, takes);
  const codecs = new Codecs(about, form);
  if (about.newest) followTraining(about, player);
  window.vqwave = { player, codecs, form, takes };
  themes.addEventListener("change", () => {
    player.dirty = codecs.dirty = true;
    takes.show();
    form.box.draw();
    codecs.box.draw();
  });
  alertIn(byId("alert"), await form.follow(location.search));
} catch (error) {
  alertIn(byId("alert"), inWords(error));
}
