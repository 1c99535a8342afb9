// What the page's form calls, and the parts it is made of.

import { Codecs } from "./codecs.js";
import { Player } from "./player.js";

window.vqwave = {
  make(form) {
    const settings = { ...form, seconds: form.endless ? "endless" : form.seconds };
    const levels = Object.keys(form).filter((name) => name.startsWith("temperature-"));
    settings.temperature = Object.fromEntries(levels.map((name) => [name.slice("temperature-".length), form[name]]));
    return window.vqwave.player.make(settings);
  },
  listen: (settings) => window.vqwave.codecs.listen(settings),
};
customElements.define("vq-player", Player);
customElements.define("vq-codecs", Codecs);
