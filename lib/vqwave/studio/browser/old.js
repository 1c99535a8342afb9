// Says in one sentence that a browser is too old for the page. Written for such browsers.

// What has these also has modules, 64-bit integers, Web Audio, and WebAssembly with SIMD.
if (!window.WebAssembly || !window.DecompressionStream || ![].at) {
  var box = document.getElementById("alert");
  box.hidden = false;
  box.textContent = "This browser is too old to make music here: use Chrome 92, Firefox 114, Safari 16.4 or newer.";
}
