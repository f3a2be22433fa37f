"use strict";
// The image with the effects of one step over it, in one of three ways.
//
// spotlight: what supports the step keeps its colours and has a double outline, the wider the stronger; what speaks
// against it is hatched in a dashed outline; the rest is grey and pale. Nothing is told by colour alone.
const picture = (() => {
  const SUPPORT = [178, 24, 43], OPPOSE = [33, 102, 172], SHOWN = 960, POWER = 0.7;
  const LEAST = 0.12; // strength from which a region is told from the rest, if its effect is not under `floor` nats
  const grey = (r, g, b) => 0.299 * r + 0.587 * g + 0.114 * b;
  const strength = (value, full) => Math.min((Math.abs(value) / full) ** POWER, 1); // so that a tenth of the largest is seen

  const least = ({ full, floor }) => Math.max(floor, full * LEAST ** (1 / POWER)); // nats from which a region is told from the rest
  const told = (value, view) => Math.abs(value) >= least(view);

  function loaded({ url, width, height }) { // → {element, width, height}; raises where it is no picture
    const element = new Image();
    element.src = url;
    return element.decode().then(() => ({ element, width, height }));
  }

  function pixels(image) { // read once
    if (!image.data) {
      const canvas = document.createElement("canvas");
      canvas.width = image.width; canvas.height = image.height;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image.element, 0, 0, image.width, image.height);
      image.data = context.getImageData(0, 0, image.width, image.height);
    }
    return image.data;
  }

  function onCanvas(data) {
    const canvas = document.createElement("canvas");
    canvas.width = data.width; canvas.height = data.height;
    canvas.getContext("2d").putImageData(data, 0, 0);
    return canvas;
  }

  const made = new WeakMap(); // values → the last picture of them, as pointing at regions draws it again and again

  function kept(kind, view, make) {
    const key = [kind, view.full, view.floor, view.dark, Boolean(view.image)].join(" "), old = made.get(view.values);
    if (old && old.key === key) return old.canvas;
    const canvas = make(view);
    made.set(view.values, { key, canvas });
    return canvas;
  }

  function spotlit(view) { // a canvas of the image's size
    const { image, map, values, full, dark } = view, from = pixels(image), out = new ImageData(from.width, from.height), { width, height } = out;
    const [share, veil] = dark ? [0.3, 26] : [0.34, 218];
    const lit = Array.from(values, (value) => (value > 0 && told(value, view) ? Math.min(1, 0.35 + 1.3 * strength(value, full)) : 0));
    for (let y = 0, i = 0; y < height; y++) {
      const row = Math.floor(((y + 0.5) * map.height) / height) * map.width;
      for (let x = 0; x < width; x++, i += 4) {
        const light = lit[map.cells[row + Math.floor(((x + 0.5) * map.width) / width)]] || 0;
        const r = from.data[i], g = from.data[i + 1], b = from.data[i + 2];
        const pale = (1 - light) * (share * grey(r, g, b) + (1 - share) * veil);
        out.data[i] = light * r + pale; out.data[i + 1] = light * g + pale; out.data[i + 2] = light * b + pale;
        out.data[i + 3] = 255;
      }
    }
    return onCanvas(out);
  }

  function coloured({ map, values, full }) { // red for support, blue against; opacity says how strong
    const out = new ImageData(map.width, map.height);
    const palette = Array.from(values, (value) =>
      [...(value < 0 ? OPPOSE : SUPPORT), Math.round(165 * strength(value, full))]);
    for (let i = 0; i < map.cells.length; i++) if (palette[map.cells[i]]) out.data.set(palette[map.cells[i]], 4 * i);
    return onCanvas(out);
  }

  function within(context, path, draw) { // strokes twice as wide, of which the inner half is seen
    context.save();
    context.clip(path);
    draw();
    context.restore();
  }

  function stroke(context, path, width, colour, dash = []) {
    context.lineWidth = 2 * width;
    context.strokeStyle = colour;
    context.setLineDash(dash);
    context.stroke(path);
  }

  function supporting(context, path, strong, px) {
    const width = (1.6 + 4.4 * strong) * px;
    within(context, path, () => {
      stroke(context, path, width, "#fff");
      stroke(context, path, width * 0.62, "#10161c");
    });
  }

  function hatch(context, box, px) { // diagonal lines, dark with a light edge
    const gap = 9 * px, height = box.bottom - box.top;
    const lines = new Path2D();
    for (let x = box.left - height - (box.left % gap); x < box.right; x += gap) {
      lines.moveTo(x, box.bottom);
      lines.lineTo(x + height, box.top);
    }
    stroke(context, lines, 1.5 * px, "rgba(255,255,255,.9)");
    stroke(context, lines, 0.7 * px, "#10161c");
  }

  function opposing(context, path, box, strong, px) {
    const width = (1.2 + 2.4 * strong) * px;
    within(context, path, () => {
      hatch(context, box, px);
      stroke(context, path, width * 1.5, "#fff");
      stroke(context, path, width, "#10161c", [7 * px, 5 * px]);
    });
  }

  function pointed(context, path, px) {
    within(context, path, () => {
      stroke(context, path, 6 * px, "#fff");
      stroke(context, path, 4 * px, "#0b63b5");
    });
  }

  function outlines(context, view, sx, sy, px) {
    const { map, values, full } = view;
    values.forEach((value, k) => {
      const strong = strength(value, full);
      if (!told(value, view) || !map.has(k)) return;
      const path = map.outline(k, sx, sy), box = map.boxes.get(k);
      if (value > 0) return supporting(context, path, strong, px);
      opposing(context, path, { left: box.left * sx, right: box.right * sx, top: box.top * sy, bottom: box.bottom * sy }, strong, px);
    });
  }

  // view: {image, map, values, full, floor, mode, region, dark}; full and floor in nats; any of image, map, values and region may be null
  function draw(canvas, view) {
    const size = view.image || view.map || { width: 4, height: 3 };
    const scale = Math.max(1, Math.round(SHOWN / Math.max(size.width, size.height)));
    const width = size.width * scale, height = size.height * scale;
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const context = canvas.getContext("2d"), px = width / (canvas.clientWidth || 420);
    context.fillStyle = view.dark ? "#2b2f33" : "#f0f2f4";
    context.fillRect(0, 0, width, height);
    context.imageSmoothingEnabled = Math.max(size.width, size.height) > 320;
    const over = view.map && view.values && view.mode !== "image";
    const spotlight = over && view.mode === "spotlight";
    if (view.image) context.drawImage(spotlight ? kept("spotlight", view, spotlit) : view.image.element, 0, 0, width, height);
    if (!view.map) return;
    const sx = width / view.map.width, sy = height / view.map.height;
    if (over && (view.mode === "colours" || !view.image)) {
      context.imageSmoothingEnabled = false;
      context.drawImage(kept("colours", view, coloured), 0, 0, width, height);
    }
    if (spotlight) outlines(context, view, sx, sy, px);
    if (view.region !== null && view.map.has(view.region)) pointed(context, view.map.outline(view.region, sx, sy), px);
  }

  function crop(canvas, image, map, k, dark) { // a region with a little around it, the rest of the box pale
    const box = map.boxes.get(k), side = canvas.width;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, side, side);
    const sx = image.width / map.width, sy = image.height / map.height;
    const long = Math.max((box.right - box.left) * sx, (box.bottom - box.top) * sy) * 1.15;
    const left = ((box.left + box.right) / 2) * sx - long / 2, top = ((box.top + box.bottom) / 2) * sy - long / 2;
    const zoom = side / long;
    context.imageSmoothingEnabled = zoom < 1.5;
    context.save();
    context.setTransform(zoom, 0, 0, zoom, -left * zoom, -top * zoom);
    context.drawImage(image.element, 0, 0, image.width, image.height);
    context.fillStyle = dark ? "rgba(26,26,26,.78)" : "rgba(224,228,232,.82)";
    const veil = new Path2D();
    veil.rect(0, 0, image.width, image.height);
    veil.addPath(map.outline(k, sx, sy));
    context.fill(veil, "evenodd");
    context.restore();
  }

  return { loaded, draw, crop, strength, least };
})();
