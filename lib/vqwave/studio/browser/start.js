// Starts the page of a site, or says in one sentence why it cannot. Written for old browsers.

function refuse(words) {
  var box = document.getElementById("alert");
  box.textContent = words;
  box.hidden = false;
}
// What has these also has modules, 64-bit integers, Web Audio, and WebAssembly with SIMD.
if (!window.WebAssembly || !window.DecompressionStream || ![].findLast) refuse("This browser is too old to make music here: use Chrome 97, Firefox 114, Safari 16.4 or newer.");
else if (location.protocol === "file:") refuse("This page needs a web server: a browser does not start it from a folder.");
else document.head.append(Object.assign(document.createElement("script"), { type: "module", src: "studio/static/site.js", onerror: function () {
  refuse("Files of this page are missing, so nothing can play: put the whole folder on the host again.");
} }));
