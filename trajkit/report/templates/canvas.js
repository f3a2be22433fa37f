"use strict";
// Pictures: label maps and effects out of base64, and the image with one sentence's effects over it.
const picture = (() => {
  const SUPPORT = [178, 24, 43], OPPOSE = [33, 102, 172], SHOWN = 840;

  function bytes(text) {
    const raw = atob(text), out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return new DataView(out.buffer);
  }

  function labels(map) { // run lengths -> Uint16Array of height * width
    const pairs = bytes(map.runs), out = new Uint16Array(map.width * map.height);
    let at = 0;
    for (let i = 0; i < pairs.byteLength; i += 4) {
      const count = pairs.getUint16(i + 2, true);
      out.fill(pairs.getUint16(i, true), at, at + count);
      at += count;
    }
    return out;
  }

  function effects(packed, steps, regions) { // -> one Float32Array of nats per sentence
    const raw = bytes(packed.values);
    return Array.from({ length: steps }, (_, t) =>
      Float32Array.from({ length: regions }, (_, k) => raw.getInt16(2 * (t * regions + k), true) * packed.unit));
  }

  function colour(value, full) { // [r, g, b, alpha 0..255]; opacity says how strong
    const strength = Math.min(Math.abs(value) / full, 1);
    return [...(value < 0 ? OPPOSE : SUPPORT), Math.round(165 * Math.pow(strength, 0.8))];
  }

  function overlay(map, cells, values, full) {
    const canvas = document.createElement("canvas");
    canvas.width = map.width; canvas.height = map.height;
    const context = canvas.getContext("2d"), data = context.createImageData(map.width, map.height);
    const palette = Array.from(values, (value) => colour(value, full));
    for (let i = 0; i < cells.length; i++) if (palette[cells[i]]) data.data.set(palette[cells[i]], 4 * i);
    context.putImageData(data, 0, 0);
    return canvas;
  }

  function edges(context, map, cells, inside, sx, sy) { // strokes where `inside` changes between neighbours
    context.beginPath();
    for (let y = 0; y < map.height; y++) for (let x = 0; x < map.width; x++) {
      const here = cells[y * map.width + x];
      if (x && inside(here, cells[y * map.width + x - 1])) { context.moveTo(x * sx, y * sy); context.lineTo(x * sx, (y + 1) * sy); }
      if (y && inside(here, cells[(y - 1) * map.width + x])) { context.moveTo(x * sx, y * sy); context.lineTo((x + 1) * sx, y * sy); }
    }
    context.stroke();
  }

  function draw(canvas, view) { // view: {image, map, cells, values, full, outlines, region}
    const size = view.image || view.map || { width: 4, height: 3 };
    const scale = Math.max(1, Math.round(SHOWN / Math.max(size.width, size.height)));
    const width = size.width * scale, height = size.height * scale;
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const context = canvas.getContext("2d");
    context.fillStyle = "#f0f2f4";
    context.fillRect(0, 0, width, height);
    context.imageSmoothingEnabled = false;
    if (view.image) context.drawImage(view.image.element, 0, 0, width, height);
    if (!view.map || !view.values) return;
    context.drawImage(overlay(view.map, view.cells, view.values, view.full), 0, 0, width, height);
    const sx = width / view.map.width, sy = height / view.map.height;
    if (view.outlines || !view.image) {
      context.lineWidth = 1.5; context.strokeStyle = "rgba(31,41,51,.45)";
      edges(context, view.map, view.cells, (a, b) => a !== b, sx, sy);
    }
    if (view.region !== null) {
      context.lineWidth = 4; context.strokeStyle = "#1f2933";
      edges(context, view.map, view.cells, (a, b) => (a === view.region) !== (b === view.region), sx, sy);
    }
  }

  function legend(canvas) {
    const context = canvas.getContext("2d");
    context.fillStyle = "#f4f2ee";
    context.fillRect(0, 0, canvas.width, canvas.height);
    for (let x = 0; x < canvas.width; x++) {
      const [r, g, b, a] = colour((2 * x) / (canvas.width - 1) - 1, 1);
      context.fillStyle = `rgba(${r},${g},${b},${a / 255})`;
      context.fillRect(x, 0, 1, canvas.height);
    }
  }

  return { labels, effects, draw, legend };
})();
