// Says in one sentence that a browser is too old for the page. Written for such browsers.

(function () {
  function missing() {
    // A module with one instruction of SIMD.
    var simd = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
    if (!window.WebAssembly || !WebAssembly.validate(new Uint8Array(simd))) return "WebAssembly with SIMD";
    if (!window.DecompressionStream || !window.BigInt64Array || !window.AudioContext) return "DecompressionStream or AudioContext";
    if (!("noModule" in document.createElement("script"))) return "JavaScript modules";
    return "";
  }
  var feature = missing();
  if (feature) {
    var box = document.getElementById("alert");
    box.hidden = false;
    box.textContent = "This browser is too old to make music here, because it lacks " + feature + ": use Chrome 91, Firefox 114, Safari 16.4 or newer.";
  }
})();
